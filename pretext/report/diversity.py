"""How varied a set of texts is, told from the texts alone. It says nothing of how near they are to the private ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

_START = 5


@dataclass(frozen=True)
class Diversity:
    """Of `texts` texts: shares between 0 and 1, lengths in words.

    Attributes:
        distinct: of all runs of one, two and three words, the share that are different ones (Li et al. 2016,
            distinct-n). It falls as texts are added, so compare it at equal numbers of texts only.
        repeated: texts that are equal to an earlier one but for case and white space.
        same_start: texts whose first five words are those of an earlier one.
        lengths: 10th percentile, median and 90th percentile.
    """

    texts: int
    distinct: tuple[float, float, float]
    repeated: float
    same_start: float
    lengths: tuple[int, int, int]


def diversity(texts: Sequence[str]) -> Diversity | None:
    """The diversity of the texts; None if there is no word in them. Words are what white space separates."""
    words = [found for text in texts if (found := tuple(text.casefold().split()))]
    if not words:
        return None
    low, median, high = np.percentile([len(each) for each in words], [10, 50, 90]).round().astype(int).tolist()
    return Diversity(
        len(texts),
        (_distinct(words, 1), _distinct(words, 2), _distinct(words, 3)),
        1 - len(set(words)) / len(words),
        1 - len({each[:_START] for each in words}) / len(words),
        (low, median, high),
    )


def _distinct(words: Sequence[tuple[str, ...]], n: int) -> float:
    runs = list(chain.from_iterable(zip(*(text[i:] for i in range(n)), strict=False) for text in words))
    return len(set(runs)) / len(runs) if runs else 0.0
