"""How good the synthetic texts are, and how much they copy. The guarantee does not cover these numbers."""
