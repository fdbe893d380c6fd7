"""The distance agrees with its textbook formula, also where that formula breaks down."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm  # type: ignore[import-untyped]

from pretext.fred.estimation import Moments
from pretext.fred.frechet import covariance_root, frechet

Floats = NDArray[np.float64]


def law(rows: Floats) -> Moments:
    return Moments(rows.mean(axis=0), rows.T @ rows / len(rows))


def textbook(left: Moments, right: Moments) -> float:
    """The slow twin: the square root of a non-symmetric product."""
    product = sqrtm(left.covariance @ right.covariance).real
    means = np.square(left.mean - right.mean).sum()
    return float(means + np.trace(left.covariance + right.covariance - 2 * product))


@pytest.mark.parametrize("d", [1, 5, 40])
def test_it_agrees_with_scipy(d: int) -> None:
    rng = np.random.default_rng(d)
    for _ in range(5):
        left = law(rng.standard_normal((400, d)) * rng.uniform(0.5, 2, d) + rng.standard_normal(d))
        right = law(rng.standard_normal((400, d)) @ rng.standard_normal((d, d)))
        assert float(frechet(left, right)) == pytest.approx(textbook(left, right), rel=1e-8)
        assert float(frechet(left, right)) == pytest.approx(float(frechet(right, left)), rel=1e-8)


def test_a_law_is_at_distance_0_from_itself() -> None:
    left = law(np.random.default_rng(0).standard_normal((100, 30)))
    assert abs(float(frechet(left, left))) < 1e-8


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_fewer_texts_than_dimensions(rows: int) -> None:
    """Singular covariances: the distance is finite, symmetric, and that of the points where there is one point each."""
    rng = np.random.default_rng(1)
    left, right = law(rng.standard_normal((rows, 8))), law(rng.standard_normal((rows, 8)))
    distance = float(frechet(left, right))
    assert np.isfinite(distance)
    assert distance == pytest.approx(float(frechet(right, left)), abs=1e-6)
    assert distance >= np.square(left.mean - right.mean).sum() - 1e-6
    if rows == 1:
        assert distance == pytest.approx(np.square(left.mean - right.mean).sum(), abs=1e-6)


def test_identical_texts() -> None:
    same = law(np.ones((5, 4)))
    assert abs(float(frechet(same, same))) < 1e-8
    spread = law(np.ones((5, 4)) + np.eye(5, 4))
    assert float(frechet(same, spread)) == pytest.approx(
        np.square(same.mean - spread.mean).sum() + np.trace(spread.covariance), abs=1e-6
    )


def test_stacks_are_taken_one_by_one() -> None:
    rng = np.random.default_rng(2)
    laws = [law(rng.standard_normal((20, 3))) for _ in range(4)]
    stack = Moments(np.stack([single.mean for single in laws]), np.stack([single.second for single in laws]))
    np.testing.assert_allclose(frechet(stack, laws[0]), [float(frechet(single, laws[0])) for single in laws], atol=1e-9)


def test_fewer_second_moments_than_means() -> None:
    rng = np.random.default_rng(3)
    left, right = law(rng.standard_normal((50, 6))), law(rng.standard_normal((50, 6)) + 1)
    truncated = [Moments(full.mean, full.second[:2, :2]) for full in (left, right)]
    first = [Moments(full.mean[:2], full.second[:2, :2]) for full in (left, right)]
    beyond = np.square(left.mean[2:] - right.mean[2:]).sum()
    assert float(frechet(*truncated)) == pytest.approx(float(frechet(*first)) + beyond)
    means = [Moments(full.mean, full.second[:0, :0]) for full in (left, right)]
    assert float(frechet(*means)) == pytest.approx(np.square(left.mean - right.mean).sum())


def test_covariance_root__squared__is_the_covariance() -> None:
    covariance = law(np.random.default_rng(4).standard_normal((9, 5))).covariance
    np.testing.assert_allclose(covariance_root(covariance) @ covariance_root(covariance), covariance, atol=1e-12)
