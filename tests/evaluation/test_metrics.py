"""Metrics on cases whose values are known."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pretext.errors import UsageError
from pretext.evaluation.metrics import (
    check_packages,
    classifier_transfer,
    cluster_coverage,
    frechet_distance,
    gap_closed,
    mauve_score,
    precision_recall,
    self_bleu,
)
from pretext.vectors import normalize_rows

D = 16


def _rows(n: int, center: int, seed: int = 0, spread: float = 0.2) -> NDArray[np.float32]:
    """Unit rows around an axis."""
    noise = np.random.default_rng(seed).normal(size=(n, D)).astype(np.float32) * np.float32(spread)
    noise[:, center] += 1
    return normalize_rows(noise)


NEAR, FAR = _rows(200, 0), _rows(200, 1)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_gap_closed_is_0_and_1_at_its_ends(zero: float, infinity: float) -> None:
    if zero == infinity:
        assert math.isnan(gap_closed(zero, zero, infinity))
        return
    assert gap_closed(zero, zero, infinity) == 0
    assert gap_closed(infinity, zero, infinity) == 1


def test_gap_closed_half_way_and_where_less_is_better() -> None:
    assert gap_closed(0.3, 0.2, 0.4) == pytest.approx(0.5)
    assert gap_closed(3.5, 4.0, 3.0) == pytest.approx(0.5)
    assert gap_closed(0.1, 0.2, 0.4) == pytest.approx(-0.5)


@pytest.mark.parametrize("place", range(3))
def test_gap_closed_of_what_is_no_number_is_nan(place: int) -> None:
    values = [0.3, 0.2, 0.4]
    values[place] = math.nan
    assert math.isnan(gap_closed(*values))


def test_frechet_distance_of_a_shifted_set_is_the_squared_shift() -> None:
    shift = np.zeros(D, np.float32)
    shift[3] = 0.5
    assert frechet_distance(NEAR, NEAR) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(NEAR + shift, NEAR) == pytest.approx(0.25, rel=1e-4)


def test_mauve_is_1_for_equal_sets_and_near_0_for_disjoint_ones(capfd: pytest.CaptureFixture[str]) -> None:
    assert mauve_score(NEAR, NEAR) == pytest.approx(1)
    assert mauve_score(FAR, NEAR) < 0.05
    assert mauve_score(_rows(200, 0, seed=1), NEAR) > 0.7
    assert capfd.readouterr() == ("", "")


def test_mauve_of_few_points_is_not_a_number() -> None:
    assert math.isnan(mauve_score(NEAR[:30], NEAR[:30]))


def test_precision_and_recall_by_hand() -> None:
    """On a line, k = 1: the reference 0, 1, 3 has radii 1, 1, 2; the synthetic 0.5, 9, 9.5 has 8.5, 0.5, 0.5."""
    reference = np.array([[0], [1], [3]], np.float32)
    synthetic = np.array([[0.5], [9], [9.5]], np.float32)
    assert precision_recall(synthetic, reference, k=1) == (pytest.approx(1 / 3), 1.0)


def test_precision_and_recall_of_equal_and_disjoint_sets() -> None:
    assert precision_recall(NEAR, NEAR) == (1, 1)
    assert precision_recall(FAR, NEAR) == (0, 0)
    twice = np.concatenate([NEAR, NEAR])
    assert precision_recall(twice, np.repeat(NEAR, 8, axis=0)) == (1, 1)
    assert all(map(math.isnan, precision_recall(NEAR[:3], NEAR[:3])))


def test_narrow_texts_are_precise_and_wide_ones_recall() -> None:
    both = np.concatenate([NEAR, FAR])
    precision, recall = precision_recall(NEAR, both)
    assert precision == 1
    assert recall == pytest.approx(0.5, abs=0.01)


def test_cluster_coverage_counts_the_clusters_hit() -> None:
    reference = np.concatenate([_rows(50, axis, seed=axis, spread=0.01) for axis in range(4)])
    assert cluster_coverage(reference, reference, clusters=4) == 1
    assert cluster_coverage(_rows(50, 2, spread=0.01), reference, clusters=4) == 0.25
    assert math.isnan(cluster_coverage(NEAR, reference[:3], clusters=4))


def test_a_classifier_carries_over_if_the_labels_mean_the_same() -> None:
    rows = np.concatenate([NEAR, FAR])
    labels = ["near"] * 200 + ["far"] * 200
    real, real_labels = np.concatenate([_rows(50, 0, seed=5), _rows(50, 1, seed=6)]), ["near"] * 50 + ["far"] * 50
    assert classifier_transfer(rows, labels, real, real_labels) == 1
    assert classifier_transfer(rows, labels[::-1], real, real_labels) == 0
    assert math.isnan(classifier_transfer(NEAR, ["near"] * 200, real, real_labels))


def test_self_bleu_of_equal_and_of_disjoint_texts() -> None:
    assert self_bleu(["one two three four five"] * 4) == pytest.approx(1)
    assert self_bleu([" ".join(f"{word}{text}" for word in "abcdef") for text in range(5)]) < 0.05
    assert math.isnan(self_bleu(["alone"]))


def test_self_bleu_by_hand() -> None:
    """Each five-word text shares its first four words with the other: precisions 4/5, 3/4, 2/3, 1/2."""
    expected = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert self_bleu(["a b c d e", "a b c d f"]) == pytest.approx(expected)


@pytest.mark.parametrize("package", ["mauve", "nltk", "sklearn"])
def test_check_packages__without_the_extra__names_it(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_packages()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(UsageError, match=r"pip install 'pretext\[quality\]'"):
        check_packages()
