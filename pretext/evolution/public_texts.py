"""Texts of public sets: where the first candidates come from, and where an auditor finds them again."""

from __future__ import annotations

from collections.abc import Iterator

from pretext.config.settings import Initial
from pretext.tables import Source, read_texts
from pretext.texts import count_words, cut_words


def read_public_texts(initial: Initial, location: str, max_words: int) -> Iterator[str]:
    """Read the public texts that are long enough, in order.

    Args:
        initial: column, subset and split; at most `most_rows` rows are read, texts below `min_words` are passed over,
            longer ones are cut to `max_words`.
        location: a file, or the id of a Hugging Face dataset.
        max_words: the longest text that the screening lets pass.

    Raises:
        UsageError: the set cannot be read.
    """
    longest = min(initial.max_words, max_words)
    source = Source(location, initial.subset, initial.split)
    for text in read_texts(source, initial.text_column, initial.most_rows):
        if count_words(text) >= initial.min_words:
            yield cut_words(text, longest).encode(errors="replace").decode()
