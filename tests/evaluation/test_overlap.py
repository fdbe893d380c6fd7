"""Shared runs of words and near duplicates."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretext.evaluation import overlap
from pretext.evaluation.overlap import highest_cosines, longest_runs
from tests.support.runs import HashEmbedder

TEXTS = st.lists(st.lists(st.sampled_from("abcAB-"), max_size=9).map(" ".join), max_size=6)


def _slow_twin(texts: list[str], corpus: list[str]) -> list[int]:
    """All runs of all texts, compared one by one."""

    def words(text: str) -> list[str]:
        return re.findall(r"\w+", text.casefold())

    def runs(text: str, n: int) -> set[tuple[str, ...]]:
        return {tuple(words(text)[start : start + n]) for start in range(len(words(text)) - n + 1)}

    return [
        max((n for n in range(1, 10) for theirs in corpus if runs(text, n) & runs(theirs, n)), default=0)
        for text in texts
    ]


@given(TEXTS, TEXTS, st.sampled_from([1, 2**22]))
def test_the_longest_run_is_that_of_a_plain_search(texts: list[str], corpus: list[str], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "_BLOCK_WORDS", block)
        assert longest_runs(texts, corpus).tolist() == _slow_twin(texts, corpus)


def test_case_white_space_and_signs_do_not_count() -> None:
    runs = longest_runs(["The door, it said:\nSTAYS shut!", "other"], ["yes; the door it said stays shut"])
    assert runs.tolist() == [6, 0]


def test_a_run_does_not_reach_over_the_end_of_a_text() -> None:
    assert longest_runs(["a b c d"], ["a b", "c d"]).tolist() == [2]


def test_a_copy_is_found_in_a_large_corpus() -> None:
    rng = np.random.default_rng(0)
    corpus = [" ".join(f"w{word}" for word in row) for row in rng.integers(0, 1000, (20_000, 20))]
    runs = longest_runs([corpus[12_345], "w1 w2 w3"], corpus)
    assert runs[0] == 20
    assert runs[1] <= 3


def test_cosines_are_those_of_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks or at once, and as a plain product of matrices has them."""
    texts = ["kernel driver", "soup recipe garden", "boot"]
    corpus = ["driver kernel", "garden", "printer update boot", "oven butter"]
    expected = (HashEmbedder()(texts) @ HashEmbedder()(corpus).T).max(axis=1)
    for block in (1, 3, 2**15):
        monkeypatch.setattr(overlap, "_BLOCK_TEXTS", block)
        np.testing.assert_allclose(highest_cosines(texts, corpus, HashEmbedder()), expected, atol=1e-3)
    assert highest_cosines(texts, corpus, HashEmbedder())[0] == pytest.approx(1)
    assert highest_cosines(texts, [], HashEmbedder()).tolist() == [-1, -1, -1]


def test_longest_runs__of_a_script_without_spaces__counts_characters() -> None:
    assert longest_runs(["我的笔记本电脑坏了。"], ["他说我的笔记本电脑很好"]).tolist() == [7]
