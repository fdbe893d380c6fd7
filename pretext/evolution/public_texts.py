"""Public texts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from pretext.config.settings import Config
from pretext.tables import Source, read_columns
from pretext.texts import is_usable_text


def public_set_locations(config: Config) -> list[str]:
    """Where public candidates may come from: the configured source, or the sets of which FreD chooses."""
    initial = config.initial
    return [initial.texts] if initial.texts is not None else list(initial.public_sets)


def read_public_texts(config: Config, location: str) -> Iterator[str]:
    """The public texts that are long enough, cut to the longest that is allowed; at most `most_rows` rows are read."""
    initial = config.initial
    longest = min(initial.max_words, config.screening.max_words)
    batches = read_columns(Source(location, initial.subset, initial.split), [initial.text_column])
    rows = islice(chain.from_iterable(batch[initial.text_column] for batch in batches), initial.most_rows)
    for text in rows:
        words = text.split() if is_usable_text(text) else []
        if len(words) >= initial.min_words:
            cut = text.strip() if len(words) <= longest else " ".join(words[:longest])
            yield cut.encode(errors="replace").decode()
