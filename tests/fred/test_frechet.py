"""The distance against its textbook formula, and where that formula breaks down."""

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


def textbook(one: Moments, other: Moments) -> float:
    """The slow twin: the square root of a non-symmetric product."""
    product = sqrtm(one.covariance @ other.covariance).real
    apart = np.square(one.mean - other.mean).sum()
    return float(apart + np.trace(one.covariance + other.covariance - 2 * product))


@pytest.mark.parametrize("d", [1, 5, 40])
def test_it_agrees_with_scipy(d: int) -> None:
    rng = np.random.default_rng(d)
    for _ in range(5):
        one = law(rng.standard_normal((400, d)) * rng.uniform(0.5, 2, d) + rng.standard_normal(d))
        other = law(rng.standard_normal((400, d)) @ rng.standard_normal((d, d)))
        assert float(frechet(one, other)) == pytest.approx(textbook(one, other), rel=1e-8)
        assert float(frechet(one, other)) == pytest.approx(float(frechet(other, one)), rel=1e-8)


def test_a_law_is_at_distance_0_from_itself() -> None:
    one = law(np.random.default_rng(0).standard_normal((100, 30)))
    assert abs(float(frechet(one, one))) < 1e-8


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_fewer_texts_than_dimensions(rows: int) -> None:
    """Singular covariances: the distance is finite, symmetric, and that of the points where there is one point each."""
    rng = np.random.default_rng(1)
    one, other = law(rng.standard_normal((rows, 8))), law(rng.standard_normal((rows, 8)))
    distance = float(frechet(one, other))
    assert np.isfinite(distance)
    assert distance == pytest.approx(float(frechet(other, one)), abs=1e-6)
    assert distance >= np.square(one.mean - other.mean).sum() - 1e-6
    if rows == 1:
        assert distance == pytest.approx(np.square(one.mean - other.mean).sum(), abs=1e-6)


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
    stack = Moments(np.stack([each.mean for each in laws]), np.stack([each.second for each in laws]))
    np.testing.assert_allclose(frechet(stack, laws[0]), [float(frechet(each, laws[0])) for each in laws], atol=1e-9)


def test_fewer_second_moments_than_means() -> None:
    rng = np.random.default_rng(3)
    one, other = law(rng.standard_normal((50, 6))), law(rng.standard_normal((50, 6)) + 1)
    shortened = [Moments(each.mean, each.second[:2, :2]) for each in (one, other)]
    first = [Moments(each.mean[:2], each.second[:2, :2]) for each in (one, other)]
    beyond = np.square(one.mean[2:] - other.mean[2:]).sum()
    assert float(frechet(*shortened)) == pytest.approx(float(frechet(*first)) + beyond)
    means = [Moments(each.mean, each.second[:0, :0]) for each in (one, other)]
    assert float(frechet(*means)) == pytest.approx(np.square(one.mean - other.mean).sum())


def test_a_root_squares_to_what_it_is_of() -> None:
    covariance = law(np.random.default_rng(4).standard_normal((9, 5))).covariance
    np.testing.assert_allclose(covariance_root(covariance) @ covariance_root(covariance), covariance, atol=1e-12)
