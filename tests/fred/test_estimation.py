"""Estimates from a release: unbiased moments, the law of their noise, and covariances that are semi-definite.

Every statistical test rejects what is right with probability at most 1e-6, and has a twin that must reject noise whose
sigma is wrong by 20 %.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from pretext.fred.estimation import MomentNoise, Moments, estimate_covariance, estimate_moments, nearest_covariance
from privacy import Bounded, DiscreteGaussian, InvalidParameter, Relation, grid_for
from privacy.moments import MomentQuery, bounded_moments, moments_mechanism
from tests.support.moments import D, make_query

Floats = NDArray[np.float64]

# The release


def estimate_without_noise(query: MomentQuery, rows: Floats, client: NDArray[np.int64]) -> Moments:
    bounded = bounded_moments(query, rows, client)
    return estimate_moments(query, bounded.value * bounded.grid, 1e-9, np.unique(client).size)[0]


@pytest.mark.parametrize("count", [0.0, 0.3])
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_released_moments_are_those_of_a_random_text_of_a_random_client(rank: int, count: float) -> None:
    rng = np.random.default_rng(2)
    rows, client = rng.standard_normal((300, D)) * 0.1, rng.integers(0, 50, 300)
    query = make_query(rank, count)
    moments = estimate_without_noise(query, rows, client)
    weight = (1 / np.bincount(client))[client] / 50
    x = (rows - query.center) @ query.basis
    np.testing.assert_allclose(moments.mean, weight @ x, atol=1e-6)
    np.testing.assert_allclose(moments.second, (x[:, :rank] * weight[:, None]).T @ x[:, :rank], atol=1e-6)
    centered = x[:, :rank] - weight @ x[:, :rank]
    np.testing.assert_allclose(moments.covariance, (centered * weight[:, None]).T @ centered, atol=1e-6)


def relative_errors(count: float, sigma_factor: float) -> Floats:
    """Errors of repeated releases of zeros, divided by what `MomentNoise` says they are; real noise."""
    query = make_query(3, count)
    noise = moments_mechanism(5.0, Relation.ADD_REMOVE)
    mechanism = DiscreteGaussian(noise.sigma * sigma_factor, noise.grid)
    clients, repetitions = 1000, 700
    value = np.zeros(query.dimension, np.int64)
    if count:
        value[0] = round(clients * count / noise.grid)
    tiled = Bounded(np.tile(value, repetitions), noise.grid, grid_for(Fraction(1))[1], nonnegative=False)
    errors = []
    for released in mechanism.draw(tiled).reshape(repetitions, -1) * noise.grid:
        moments, _ = estimate_moments(query, released, noise.standard_deviation, clients)
        law = MomentNoise.of(query, noise.standard_deviation, clients)
        diagonal, off_diagonal = np.diag(moments.second), moments.second[np.triu_indices(3, 1)]
        errors.append(
            [*(moments.mean / law.mean), *(diagonal / law.second), *(off_diagonal * math.sqrt(2) / law.second)]
        )
    return np.concatenate(errors)


@pytest.mark.parametrize("count", [0.0, 0.3])
def test_moment_noise__real_releases__has_the_law_it_states(count: float) -> None:
    for factor, accepted in ((1.0, True), (0.8, False), (1.2, False)):
        errors = relative_errors(count, factor)
        # Chi-square with errors.size degrees of freedom; the count's noise changes the scale by a per cent at most.
        low, high = stats.chi2.ppf([0.5e-6, 1 - 0.5e-6], errors.size)
        assert bool(0.96 * low <= np.square(errors).sum() <= 1.04 * high) is accepted


def test_simulated_noise_has_the_same_law() -> None:
    rng = np.random.default_rng(3)
    law = MomentNoise(0.3, 0.2)
    simulated = law.simulate(Moments(np.zeros(3), np.zeros((2, 2))), 20_000, rng)
    assert simulated.mean.std() == pytest.approx(0.3, rel=0.03)
    assert simulated.second[:, 0, 0].std() == pytest.approx(0.2, rel=0.03)
    assert simulated.second[:, 0, 1].std() == pytest.approx(0.2 / math.sqrt(2), rel=0.03)
    np.testing.assert_array_equal(simulated.second[:, 0, 1], simulated.second[:, 1, 0])
    scaled = MomentNoise(0.0, 0.0, 0.01).simulate(Moments(np.ones(1), np.ones((1, 1))), 20_000, rng)
    assert scaled.mean.std() == pytest.approx(0.01, rel=0.05)
    np.testing.assert_allclose(scaled.mean[:, 0], scaled.second[:, 0, 0])


def test_the_edge_predicts_the_largest_eigenvalue() -> None:
    law = MomentNoise(0.0, 0.5)
    simulated = law.simulate(Moments(np.zeros(60), np.zeros((60, 60))), 5, np.random.default_rng(4)).second
    assert np.abs(np.linalg.eigvalsh(simulated)).max() == pytest.approx(law.edge(60), rel=0.15)


def test_a_count_lost_in_noise_is_at_least_the_noise() -> None:
    query = make_query(1, 0.3)
    moments, _ = estimate_moments(query, np.full(query.dimension, -50.0), 10.0)
    assert np.isfinite(moments.mean).all()
    assert np.isfinite(moments.second).all()


# Covariances


def test_an_estimate_without_noise_is_the_covariance_itself() -> None:
    rng = np.random.default_rng(5)
    root = rng.standard_normal((3, 3))
    moments = Moments(np.ones(3), root @ root.T + 1)
    estimate = estimate_covariance(moments, MomentNoise(0.0, 0.0), np.eye(3))
    np.testing.assert_allclose(estimate, root @ root.T, atol=1e-10)


def test_an_estimate_of_noise_alone_is_the_prior() -> None:
    prior = np.diag([0.3, 0.2, 0.1])
    noisy = MomentNoise(0.0, 100.0).simulate(Moments(np.zeros(3), prior), 1, np.random.default_rng(6))
    estimate = estimate_covariance(noisy, MomentNoise(0.0, 1e4), prior)
    np.testing.assert_allclose(estimate[0], prior, atol=1e-10)


def test_estimates_are_semi_definite_and_nearer_than_the_raw_ones() -> None:
    rng = np.random.default_rng(7)
    truth, prior = np.diag(1.0 / np.arange(1, 13)), np.eye(12) * 0.25
    law = MomentNoise(0.02, 0.1)
    noisy = law.simulate(Moments(np.zeros(12), truth), 200, rng)
    estimates = estimate_covariance(noisy, law, prior)
    assert np.linalg.eigvalsh(estimates).min() >= -1e-12
    raw = np.square(noisy.covariance - truth).sum(axis=(1, 2)).mean()
    assert np.square(estimates - truth).sum(axis=(1, 2)).mean() < 0.8 * raw


def test_nearest_covariance__negative_eigenvalue__is_zero() -> None:
    np.testing.assert_allclose(nearest_covariance(np.diag([2.0, -1.0])), np.diag([2.0, 0.0]), atol=1e-12)


def test_an_answer_to_another_query_is_refused() -> None:
    query = make_query(2, 0.0)
    with pytest.raises(InvalidParameter, match="coordinates"):
        estimate_moments(query, np.zeros(3), 1.0, 10)
    with pytest.raises(InvalidParameter, match="public number"):
        estimate_moments(query, np.zeros(query.dimension), 1.0)
