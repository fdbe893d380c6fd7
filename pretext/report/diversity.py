"""How varied a set of texts is, measured on the texts alone. It does not show how near they are to private ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from pretext.texts import split_words

_START_WORDS = 5


@dataclass(frozen=True)
class Diversity:
    """The diversity of a set; shares lie between 0 and 1, lengths are in words.

    Attributes:
        texts: their number.
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
    """Measure the diversity of texts; None if there is no word in them."""
    words = [words for text in texts if (words := fold_words(text))]
    if not words:
        return None
    low, median, high = np.percentile([len(text) for text in words], [10, 50, 90]).round().astype(int).tolist()
    return Diversity(
        len(texts),
        (distinct_share(texts, 1), distinct_share(texts, 2), distinct_share(texts, 3)),
        repetition_share(texts),
        1 - len({text[:_START_WORDS] for text in words}) / len(words),
        (low, median, high),
    )


def fold_words(text: str) -> tuple[str, ...]:
    """Split a text into words, without regard to case."""
    return tuple(split_words(text.casefold()))


def distinct_share(texts: Sequence[str], n: int) -> float:
    """Compute distinct-n (Li et al. 2016): of all runs of n words, the share that are different; NaN if there is none.

    It falls as texts are added, so compare it at equal numbers of texts only.
    """
    words = [fold_words(text) for text in texts]
    runs = list(chain.from_iterable(zip(*(text[start:] for start in range(n)), strict=False) for text in words))
    return len(set(runs)) / len(runs) if runs else math.nan


def repetition_share(texts: Sequence[str]) -> float:
    """Compute the share of texts that repeat an earlier one but for case and white space; NaN without texts."""
    return 1 - len({fold_words(text) for text in texts}) / len(texts) if texts else math.nan
