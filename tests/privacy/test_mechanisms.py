"""The noise: its proof in numbers, and the draws themselves.

Every statistical test rejects the right noise with probability at most 1e-6, and has a twin that must reject noise
whose sigma is wrong by 20 % (or, where sigma does not matter, another fault).
"""

from __future__ import annotations

import inspect
import math
import os
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]
from scipy.special import ndtr  # type: ignore[import-untyped]

import privacy
from privacy import Cost, DiscreteGaussian, InvalidParameter, Relation, delta, grid_for
from tests.privacy.helpers import BOUND, add_up, gaussian, zeros

ALPHA = 1e-6
SAMPLES = 20_000
SMALL, LARGE = DiscreteGaussian(3.0, 1.0), DiscreteGaussian(3.0 * 2**30, 2.0**-27)

Floats = NDArray[np.float64]


# The proof, in numbers


def discrete_law(sigma: float) -> Floats:
    """N_Z(0, sigma^2) on the integers of +-40 sigma."""
    weight = np.exp(-(support(sigma) ** 2) / (2 * sigma**2))
    law: Floats = weight / weight.sum()
    return law


def rounded_law(sigma: float) -> Floats:
    """round(N(0, sigma^2)); from the left tail, where the distribution function is exact."""
    left = -np.abs(support(sigma))
    law: Floats = ndtr((left + 0.5) / sigma) - ndtr((left - 0.5) / sigma)
    return law


def support(sigma: float) -> Floats:
    reach = math.ceil(40 * sigma)
    return np.arange(-reach, reach + 1, dtype=np.float64)


@pytest.mark.parametrize("sigma", [1.0, 1.1, 1.5, 2.0, 3.0, 7.5, 20.0, 100.0])
def test_total_variation_to_the_rounded_gaussian(sigma: float) -> None:
    """The proof's 1 / (16 s^2) holds, and wastes a factor of three to four (1/8 for a kernel whose mean is 1/24)."""
    distance = 0.5 * float(np.abs(discrete_law(sigma) - rounded_law(sigma)).sum())
    bound = 1 / (16 * sigma**2)
    assert distance <= bound
    assert distance >= bound / 4


@pytest.mark.parametrize("sigma", [1.0, 1.5, 3.0])
def test_total_variation_adds_up_over_coordinates(sigma: float) -> None:
    pair = np.outer(discrete_law(sigma), discrete_law(sigma)) - np.outer(rounded_law(sigma), rounded_law(sigma))
    assert 0.5 * np.abs(pair).sum() <= 2 / (16 * sigma**2)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("shift", [1, 2, 6])
@pytest.mark.parametrize("at", [0.0, 0.1, 0.5, 1.0, 3.0])
def test_the_claim_holds_for_the_discrete_gaussian_itself(sigma: float, shift: int, at: float) -> None:
    """The divergence of the two output laws, summed up term by term, is at most what the accountant says."""
    law = np.pad(discrete_law(sigma), (0, shift))
    moved = np.pad(discrete_law(sigma), (shift, 0))
    cost = DiscreteGaussian(sigma, 1.0).cost(1, shift**2)
    for left, right in ((law, moved), (moved, law)):
        assert np.maximum(left - math.exp(at) * right, 0).sum() <= delta(cost, at)


@pytest.mark.parametrize("at", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shift", [(1, 1), (2, 1), (3, 0)])
def test_the_claim_holds_in_two_dimensions(shift: tuple[int, int], at: float) -> None:
    """A discrete Gaussian vector has no rotation symmetry; the slack must make up for it in every direction."""
    sigma, reach = 1.2, 40
    axis = np.arange(-reach, reach + 1)
    weight = np.exp(-(axis**2) / (2 * sigma**2))
    law = np.outer(weight, weight) / weight.sum() ** 2
    moved = np.roll(law, shift, axis=(0, 1))
    cost = DiscreteGaussian(sigma, 1.0).cost(2, shift[0] ** 2 + shift[1] ** 2)
    assert np.maximum(law - math.exp(at) * moved, 0).sum() <= delta(cost, at)


# Cost


@given(st.floats(1.0, 2.0**50), st.integers(1, 2**61), st.integers(1, 10**6))
def test_cost_is_rounded_up(sigma: float, squared_sensitivity: int, dimension: int) -> None:
    cost = DiscreteGaussian(sigma, 1.0).cost(dimension, squared_sensitivity)
    exact = Fraction(squared_sensitivity) / Fraction(sigma) ** 2
    assert Fraction(cost.mu_squared) >= exact
    assert Fraction(cost.mu_squared) <= exact * (1 + Fraction(1, 2**50))
    assert Fraction(cost.slack) >= Fraction(dimension, 16) / Fraction(sigma) ** 2 * (1 - Fraction(1, 2**52))


@given(st.floats(0.1, 200.0), st.fractions(Fraction(1, 1000), Fraction(1000)), st.sampled_from(Relation))
def test_noise_for_a_sum_costs_its_multiplier(multiplier: float, norm_squared: Fraction, relation: Relation) -> None:
    mechanism = DiscreteGaussian.for_sum(multiplier, norm_squared, relation)
    bounded = add_up({}, 3, norm_squared)
    cost = mechanism.cost(3, bounded.sensitivity_squared(relation))
    assert mechanism.grid == bounded.grid
    assert cost.mu_squared == pytest.approx(multiplier**-2, rel=1e-12)
    factor = 2 if relation is Relation.REPLACE_ONE else 1
    assert mechanism.standard_deviation == pytest.approx(multiplier * math.sqrt(factor * norm_squared), rel=1e-6)


def test_the_price_of_the_grid_is_not_visible() -> None:
    cost = gaussian(1.0).cost(1024, grid_for(BOUND)[1])
    assert 11 * cost.slack < 1e-14


def test_signed_sums_cost_more_than_the_noise_was_meant_for() -> None:
    """The charge comes from the value, not from the mechanism: a mistake costs budget, never privacy."""
    mechanism = gaussian(5.0, Relation.ADD_REMOVE)
    bounded = add_up({}, 3)
    cheap = mechanism.cost(3, bounded.sensitivity_squared(Relation.ADD_REMOVE))
    dear = mechanism.cost(3, bounded.sensitivity_squared(Relation.REPLACE_ONE))
    assert dear.mu_squared == pytest.approx(2 * cheap.mu_squared)


# Refusals


@pytest.mark.parametrize("sigma", [0.0, 0.999, -1.0, math.nan, math.inf, 2.0**51])
def test_sigmas_outside_the_proof(sigma: float) -> None:
    with pytest.raises(InvalidParameter, match="sigma"):
        DiscreteGaussian(sigma, 1.0)


@pytest.mark.parametrize("grid", [0.0, -1.0, 0.3, 3.0, math.nan, math.inf])
def test_grids_that_are_no_power_of_two(grid: float) -> None:
    with pytest.raises(InvalidParameter, match="power of two"):
        DiscreteGaussian(10.0, grid)


@pytest.mark.parametrize("multiplier", [0.0, -1.0, math.nan, math.inf])
def test_multipliers_that_are_no_noise(multiplier: float) -> None:
    with pytest.raises(InvalidParameter):
        gaussian(multiplier)


def test_value_and_noise_must_share_a_grid() -> None:
    with pytest.raises(InvalidParameter, match="grid"):
        DiscreteGaussian(10.0, 0.5).draw(zeros(3, grid=1.0))


# The draws


def draw_noise(mechanism: DiscreteGaussian, samples: int = SAMPLES) -> Floats:
    """Draw noise, in units of the mechanism's own sigma."""
    return mechanism.draw(zeros(samples, grid=mechanism.grid)) / mechanism.sigma


def variance_rejects(noise: Floats) -> bool:
    """Two-sided chi-square test of variance 1. (A discrete Gaussian of sigma 3 has variance 9 to within e^-170.)"""
    statistic = float((noise**2).sum())
    tail = min(stats.chi2.cdf(statistic, noise.size), stats.chi2.sf(statistic, noise.size))
    return bool(2 * tail < ALPHA)


def mean_rejects(noise: Floats) -> bool:
    return bool(2 * stats.norm.sf(abs(noise.sum()) / math.sqrt(noise.size)) < ALPHA)


def shape_rejects(noise: Floats) -> bool:
    """Kolmogorov and Smirnov's test against the standard normal law."""
    return bool(stats.kstest(noise, "norm").pvalue < ALPHA)


def counts_reject(steps: NDArray[np.int64], sigma: float) -> bool:
    """Chi-square test of the counts of single integers against the discrete Gaussian; tails are pooled."""
    reach = 4 * int(sigma)
    law = discrete_law(sigma)
    center = law.size // 2
    inner = law[center - reach : center + reach + 1]
    expected = np.append(inner, 1 - inner.sum()) * steps.size
    inside = steps[np.abs(steps) <= reach]
    counts = np.append(np.bincount(inside + reach, minlength=2 * reach + 1), steps.size - inside.size)
    # Pool the integers expected less than ten times: the chi-square law is not valid for them yet.
    rare = expected < 10
    expected = np.append(expected[~rare], expected[rare].sum())
    counts = np.append(counts[~rare], counts[rare].sum())
    return bool(stats.chisquare(counts, expected, sum_check=False).pvalue < ALPHA)


@pytest.fixture(scope="module", params=[SMALL, LARGE], ids=["small sigma", "large sigma"])
def noise(request: pytest.FixtureRequest) -> Floats:
    mechanism: DiscreteGaussian = request.param
    return draw_noise(mechanism)


def test_variance(noise: Floats) -> None:
    assert not variance_rejects(noise)


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_variance_notices_a_wrong_sigma(factor: float) -> None:
    assert variance_rejects(draw_noise(DiscreteGaussian(LARGE.sigma * factor, LARGE.grid)) * factor)


def test_mean(noise: Floats) -> None:
    assert not mean_rejects(noise)


def test_mean_notices_a_bias(noise: Floats) -> None:
    """The mean cannot see sigma; its twin is a shift of 5 % of it."""
    assert mean_rejects(noise + 0.1)


def test_shape() -> None:
    assert not shape_rejects(draw_noise(LARGE))


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_shape_notices_a_wrong_sigma(factor: float) -> None:
    assert shape_rejects(draw_noise(LARGE) * factor)


def test_shape_notices_laplace_noise_of_the_same_variance() -> None:
    laplace = np.random.default_rng(1).laplace(scale=math.sqrt(0.5), size=SAMPLES)
    assert not variance_rejects(draw_noise(LARGE))
    assert shape_rejects(laplace)


def test_every_integer_has_its_probability() -> None:
    assert not counts_reject(SMALL.draw(zeros(SAMPLES)), SMALL.sigma)


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_counts_notice_a_wrong_sigma(factor: float) -> None:
    assert counts_reject(DiscreteGaussian(SMALL.sigma * factor, 1.0).draw(zeros(SAMPLES)), SMALL.sigma)


def test_neighboring_coordinates_are_independent(noise: Floats) -> None:
    """The lag-one correlation of white noise is normal with variance 1 / n."""
    assert 2 * stats.norm.sf(abs((noise[1:] * noise[:-1]).sum()) / math.sqrt(noise.size)) >= ALPHA


def test_correlation_notices_a_dependence(noise: Floats) -> None:
    dependent = noise[1:] + 0.2 * noise[:-1]
    correlation = abs((dependent[1:] * dependent[:-1]).sum()) / (dependent**2).sum()
    assert 2 * stats.norm.sf(correlation * math.sqrt(noise.size)) < ALPHA


def test_the_value_is_under_the_noise() -> None:
    """The noise is added to the value, on its grid: the mean of a thousand bins of 100 votes is 100 votes."""
    bounded = add_up({client: [(i, 0.05) for i in range(1000)] for client in range(2000)}, 1000)
    mechanism = gaussian(1.0)
    error = (mechanism.draw(bounded) - bounded.value) / mechanism.sigma
    assert not variance_rejects(error)
    assert not mean_rejects(error)


# Where the randomness comes from


def test_two_draws_differ() -> None:
    assert (LARGE.draw(zeros(50, grid=LARGE.grid)) != LARGE.draw(zeros(50, grid=LARGE.grid))).all()


def test_global_seeds_do_not_reach_the_noise() -> None:
    torch = pytest.importorskip("torch")

    def draw_after_seeding() -> NDArray[np.int64]:
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        return LARGE.draw(zeros(50, grid=LARGE.grid))

    assert (draw_after_seeding() != draw_after_seeding()).all()


def test_forked_processes_draw_different_noise() -> None:
    """A generator that was filled before the fork would give every child the same noise."""
    LARGE.draw(zeros(8, grid=LARGE.grid))
    draws = [draw_in_a_fork() for _ in range(3)] + [LARGE.draw(zeros(8, grid=LARGE.grid)).tobytes()]
    assert len(set(draws)) == len(draws)


def draw_in_a_fork() -> bytes:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, LARGE.draw(zeros(8, grid=LARGE.grid)).tobytes())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        noise = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    assert len(noise) == 64
    return noise


def test_nothing_public_takes_a_seed() -> None:
    for name in privacy.__all__:
        member = getattr(privacy, name)
        functions = [member] if inspect.isfunction(member) else [f for _, f in inspect.getmembers(member, callable)]
        for function in functions:
            if inspect.isroutine(function) and hasattr(function, "__code__"):
                names = set(inspect.signature(function).parameters)
                assert not names & {"seed", "rng", "random_state", "generator", "key"}, f"{name}.{function.__name__}"


def test_the_mechanism_has_a_name_for_the_ledger() -> None:
    assert SMALL.name == "discrete Gaussian"
    assert Cost() == Cost(0.0, 0.0)
