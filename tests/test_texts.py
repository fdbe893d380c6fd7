from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pretext.texts import Reservoir, count_words, cut_words, is_usable_text


@pytest.mark.parametrize("value", [None, 5, 1.0, b"text", ["text"], "", " \n\t", "\N{NO-BREAK SPACE}"])
def test_is_usable_text__of_no_text__is_false(value: object) -> None:
    assert not is_usable_text(value)


def test_reservoir__of_a_short_stream__holds_all_of_it() -> None:
    reservoir = Reservoir[int](5, np.random.default_rng(0).integers)
    for number in range(3):
        reservoir.add(number)
    assert (reservoir.sample, reservoir.seen) == ([0, 1, 2], 3)


def test_reservoir__of_size_zero__counts_only() -> None:
    reservoir = Reservoir[int](0, np.random.default_rng(0).integers)
    reservoir.add(1)
    assert (reservoir.sample, reservoir.seen) == ([], 1)


def test_reservoir__of_a_long_stream__is_uniform() -> None:
    """False alarms: one in a million. A reservoir that draws below n - 1 is found out."""

    def unlikeliness(shift: int) -> float:
        rng, counts = np.random.default_rng(0), np.zeros(10)
        for _ in range(20_000):
            reservoir = Reservoir[int](3, lambda n: rng.integers(n - shift))
            for number in range(10):
                reservoir.add(number)
            counts[reservoir.sample] += 1
        return float(chisquare(counts).pvalue)

    assert unlikeliness(0) > 1e-6
    assert unlikeliness(1) < 1e-6


@pytest.mark.parametrize(
    "text", ["\u200b\u200d\ufeff", "\u3164", "\u2800", "\u0301", "\x00\x07", "\u202e", "\ud83d", "\ufe0f"]
)
def test_is_usable_text__of_what_shows_nothing__is_false(text: str) -> None:
    assert not is_usable_text(text)
    assert is_usable_text(f"{text}a")


@pytest.mark.parametrize("text", ["a", "?", "5", "😀", "我", "ا", "\u200bword", "€"])
def test_is_usable_text__of_one_visible_character__is_true(text: str) -> None:
    assert is_usable_text(text)


@given(st.text("aé \n\t-.,한"))
def test_count_words__of_scripts_with_spaces__counts_what_stands_between(text: str) -> None:
    assert count_words(text) == len(text.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我的笔记本电脑", 7),
        ("没有人知道，为什么。", 8),
        ("これはテストです。", 8),
        ("iPhone 很好", 3),
        ("สวัสดีครับ", 3),
        ("한국어 띄어쓰기", 2),
        ("", 0),
    ],
)
def test_count_words__of_scripts_without_spaces__counts_characters(text: str, words: int) -> None:
    assert count_words(text) == words


@given(st.text("ab 我，ก\n"), st.integers(0, 9))
def test_cut_words__of_any_text__leaves_at_most_so_many(text: str, most: int) -> None:
    cut = cut_words(text, most)
    assert count_words(cut) == min(count_words(text), most)
    assert text.replace(" ", "").replace("\n", "").startswith(cut.replace(" ", "").replace("\n", ""))
    assert count_words(text) > most or cut == text.strip()
