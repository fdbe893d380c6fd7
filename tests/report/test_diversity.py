"""Variety of texts, by hand."""

from __future__ import annotations

import math

import pytest

from pretext.report.diversity import distinct_share, measure_diversity, repetition_share


def test_distinct_by_hand() -> None:
    texts = ["the cat saw the Cat", "the dog"]
    assert distinct_share(texts, 1) == 4 / 7  # the, cat, saw, dog of seven words
    assert distinct_share(texts, 2) == 4 / 5  # "the cat" twice
    assert distinct_share(texts, 3) == 1
    assert math.isnan(distinct_share(["one"], 2))


def test_duplicates_but_for_case_and_white_space() -> None:
    assert repetition_share(["One two", "one  TWO", "three", "one two"]) == 0.5
    assert repetition_share(["one", "two"]) == 0
    assert math.isnan(repetition_share([]))


def test_diversity_by_hand() -> None:
    diversity = measure_diversity(["a b a b", "A  b a b", "c d"])
    assert diversity is not None
    assert diversity.distinct_shares == (4 / 10, 3 / 7, 2 / 4)
    assert diversity.repeated_texts == pytest.approx(1 / 3)
    assert diversity.lengths[1] == 4
    assert measure_diversity(["one two three four five six", "one two three four five seven"]).same_start == 0.5  # type: ignore[union-attr]
    assert measure_diversity(["", "  "]) is None


def test_measure_diversity__of_a_script_without_spaces__counts_characters() -> None:
    diversity = measure_diversity(["我的笔记本电脑", "我的笔记本坏了"])
    assert diversity is not None
    assert diversity.lengths == (7, 7, 7) and diversity.same_start == 0.5
