"""How varied a set of texts is, told from the texts alone. It says nothing of how near they are to the private ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

_START_WORDS = 5


@dataclass(frozen=True)
class Diversity:
    """Of `texts` texts: shares between 0 and 1, lengths in words.

    Attributes:
        distinct_shares: distinct-1, -2 and -3.
        repeated_texts: texts that are equal to an earlier one but for case and white space.
        same_start: texts whose first five words are those of an earlier one.
        lengths: 10th percentile, median and 90th percentile.
    """

    texts: int
    distinct_shares: tuple[float, float, float]
    repeated_texts: float
    same_start: float
    lengths: tuple[int, int, int]


def measure_diversity(texts: Sequence[str]) -> Diversity | None:
    """The diversity of the texts; None if there is no word in them."""
    words = [found for text in texts if (found := split_words(text))]
    if not words:
        return None
    low, median, high = np.percentile([len(each) for each in words], [10, 50, 90]).round().astype(int).tolist()
    return Diversity(
        len(texts),
        (distinct_share(texts, 1), distinct_share(texts, 2), distinct_share(texts, 3)),
        repeated_share(texts),
        1 - len({each[:_START_WORDS] for each in words}) / len(words),
        (low, median, high),
    )


def split_words(text: str) -> tuple[str, ...]:
    """What white space separates, without regard to case."""
    return tuple(text.casefold().split())


def distinct_share(texts: Sequence[str], n: int) -> float:
    """Distinct-n (Li et al. 2016): of all runs of n words, the share that are different ones; NaN if there is none.

    It falls as texts are added, so compare it at equal numbers of texts only.
    """
    words = [split_words(text) for text in texts]
    runs = list(chain.from_iterable(zip(*(text[start:] for start in range(n)), strict=False) for text in words))
    return len(set(runs)) / len(runs) if runs else math.nan


def repeated_share(texts: Sequence[str]) -> float:
    """Share of texts that are equal to an earlier one but for case and white space; NaN without texts."""
    return 1 - len({split_words(text) for text in texts}) / len(texts) if texts else math.nan
