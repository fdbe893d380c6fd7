"""Pages, cards, charts and exports for people, from a run folder alone."""
