"""Variety of texts, by hand."""

from __future__ import annotations

import math

import pytest

from pretext.report.diversity import distinct, diversity, repeated


def test_distinct_by_hand() -> None:
    texts = ["the cat saw the Cat", "the dog"]
    assert distinct(texts, 1) == 4 / 7  # the, cat, saw, dog of seven words
    assert distinct(texts, 2) == 4 / 5  # "the cat" twice
    assert distinct(texts, 3) == 1
    assert math.isnan(distinct(["one"], 2))


def test_duplicates_but_for_case_and_white_space() -> None:
    assert repeated(["One two", "one  TWO", "three", "one two"]) == 0.5
    assert repeated(["one", "two"]) == 0
    assert math.isnan(repeated([]))


def test_diversity_by_hand() -> None:
    found = diversity(["a b a b", "A  b a b", "c d"])
    assert found is not None
    assert found.distinct == (4 / 10, 3 / 7, 2 / 4)
    assert found.repeated == pytest.approx(1 / 3)
    assert found.lengths[1] == 4
    assert diversity(["one two three four five six", "one two three four five seven"]).same_start == 0.5  # type: ignore[union-attr]
    assert diversity(["", "  "]) is None
