"""A run's synthetic texts as a stream, with progress."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pretext.files import Row
from pretext.progress import show_progress
from pretext.run.folder import Run
from pretext.run.shards import synthetic_rows

_STEP = 1000
_MANY = 100_000


def read_rows_with_progress(folder: Path, doing: str) -> Iterator[Row]:
    """The rows of `synthetic_rows`; where they are many, a display says what is going on."""
    run, _ = Run.open(folder)
    total = int((run.load("expansion.json") or {}).get("kept", 0))
    with show_progress(doing if total >= _MANY else None, total) as advance:
        for number, row in enumerate(synthetic_rows(folder), 1):
            yield row
            if number % _STEP == 0:
                advance(_STEP)
