"""The distance of texts from a profile; rates of false alarms are below 1e-6 unless said otherwise."""

import numpy as np
import pytest
import scipy.sparse

from pretext.profile.fit import Fit, covered_mass, measure_fit
from pretext.profile.weights import maximum_entropy

D = 400
RNG = np.random.default_rng


def draw_residuals(seed: int, bias: float) -> np.ndarray:
    """Residuals of means that are `bias` deviations from the true ones."""
    return bias * np.sign(RNG(10_000).normal(size=D)) - RNG(seed).normal(size=D)


@pytest.mark.parametrize("bias", [0.0, 0.5, 2.0])
def test_distance__over_many_releases__is_unbiased_with_its_standard_error(bias: float) -> None:
    fits = [Fit(draw_residuals(seed, bias)) for seed in range(400)]
    distances = np.array([fit.distance for fit in fits])
    error = distances.std()
    assert abs(distances.mean() - bias**2) < 5 * error / 20
    assert np.mean([fit.standard_error for fit in fits]) == pytest.approx(error, rel=0.2)


def test_distance__of_fitted_weights__counts_what_follows_the_noise() -> None:
    rng = RNG(0)
    features = scipy.sparse.csr_array((rng.random((60, 40)) < 0.3).astype(np.float32))
    truth, deviation = features.T @ rng.dirichlet(np.full(60, 5.0)), np.full(40, 0.02)
    naive, corrected, actual = [], [], []
    for seed in range(60):
        mean = truth + RNG(seed).normal(0, deviation)
        weights = maximum_entropy(features, mean, deviation, box=0.5)
        naive.append(measure_fit(features, mean, deviation, weights.p).distance)
        corrected.append(measure_fit(features, mean, deviation, weights.p, weights.active).distance)
        actual.append(float((((features.T @ weights.p - truth) / deviation) ** 2).mean()))
    assert np.mean(naive) < 0 < np.mean(actual)
    assert abs(np.mean(corrected) - np.mean(actual)) < abs(np.mean(naive) - np.mean(actual)) / 4


def test_improvement__of_one_as_far__is_seldom_claimed() -> None:
    claims = 0
    for seed in range(400):
        noise = RNG(seed).normal(size=D)
        one, other = np.sign(RNG(1).normal(size=D)), np.sign(RNG(2).normal(size=D))
        claims += Fit(one - noise).improves_on(Fit(other - noise))
    assert claims < 32  # 2.3 % are expected, 9 of 400


def test_improvement__of_one_clearly_nearer__is_claimed_and_not_the_other_way() -> None:
    noise = RNG(0).normal(size=D)
    near, far = Fit(0.1 - noise), Fit(1.0 - noise)
    assert near.improves_on(far)
    assert not far.improves_on(near)
    assert not near.improves_on(near)


def test_fit__of_texts__names_the_largest_residuals() -> None:
    features = scipy.sparse.csr_array(np.array([[1, 0, 1], [1, 1, 0]], np.float32))
    fit = measure_fit(features, np.array([1.0, 0.0, 0.4]), np.full(3, 0.1))
    assert fit.residuals == pytest.approx([0, 5, 1])
    assert fit.largest(2) == [1, 2]
    weighted = measure_fit(features, np.array([1.0, 0.0, 0.4]), np.full(3, 0.1), np.array([1.0, 0.0]))
    assert weighted.residuals == pytest.approx([0, 0, 6])


def test_covered__mass__counts_what_stands_above_the_noise() -> None:
    mean, deviation = np.array([0.5, 0.3, 0.01]), np.full(3, 0.02)
    assert covered_mass(np.array([0.5, 0.0, 0.5]), mean, deviation) == pytest.approx(5 / 8)
    assert covered_mass(np.array([0.6, 0.4, 0.0]), mean, deviation) == pytest.approx(1)
    assert covered_mass(np.zeros(3), np.zeros(3), deviation) == 1
