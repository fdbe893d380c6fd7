"""Weights by maximum entropy, against a generic solver and against the conditions of the optimum."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from pretext.errors import UsageError
from pretext.profile.weights import _ELASTICITY, maximum_entropy

Floats = NDArray[np.float64]


def draw_problem(seed: int, n: int, d: int) -> tuple[scipy.sparse.csr_array, Floats, Floats, Floats]:
    """Draw features, released means, deviations and base weights; means may be out of reach."""
    rng = np.random.default_rng(seed)
    features = scipy.sparse.csr_array((rng.random((n, d)) < rng.random(d)).astype(np.float32))
    mean = features.T @ rng.dirichlet(np.full(n, 0.3)) + rng.normal(0, 0.1, d)
    return features, mean, rng.uniform(0.02, 0.2, d), rng.dirichlet(np.ones(n)) * 0.9 + 0.1 / n


def primal(p: Floats, x: Floats, target: Floats, deviation: Floats, box: float, base: Floats) -> float:
    """The objective of the module's docstring."""
    missed = np.maximum(np.abs(x.T @ p - target) / deviation - box, 0)
    return float((p * np.log(np.maximum(p, 1e-300) / base)).sum() + (missed**2).sum() / (2 * _ELASTICITY))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cap", [1.0, 0.2])
def test_weights__of_a_small_problem__are_those_of_a_generic_solver(seed: int, cap: float) -> None:
    features, mean, deviation, base = draw_problem(seed, 9, 4)
    x, box = features.toarray().astype(float), 0.5
    target = np.clip(mean, x.min(axis=0), x.max(axis=0))
    solved = minimize(
        primal,
        np.full(9, 1 / 9),
        (x, target, deviation, box, base),
        method="SLSQP",
        bounds=[(1e-12, cap)] * 9,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        options={"maxiter": 1000, "ftol": 1e-12},
    )
    ours = maximum_entropy(features, mean, deviation, box=box, base=base, cap=cap)
    assert primal(ours.p, x, target, deviation, box, base) == pytest.approx(solved.fun, abs=2e-3)
    assert ours.p == pytest.approx(solved.x, abs=0.02)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 20), st.floats(0, 3), st.floats(0.02, 1))
def test_weights__of_any_problem__meet_the_conditions_of_the_optimum(
    seed: int, n: int, d: int, box: float, cap: float
) -> None:
    assume(n * cap >= 1)
    features, mean, deviation, base = draw_problem(seed, n, d)
    weights = maximum_entropy(features, mean, deviation, box=box, base=base, cap=cap)
    p, x = weights.p, features.toarray().astype(float)
    assert p.sum() == pytest.approx(1) and p.min() >= 0 and p.max() <= cap * (1 + 1e-9)
    scores = np.log(base) + x @ weights.multipliers
    free = p < cap * (1 - 1e-6)
    if free.any():
        levels = (scores - np.log(np.maximum(p, 1e-300)))[free & (p > 1e-290)]
        assert np.ptp(levels) < 1e-6  # texts below the cap: p ~ q exp(t . x)
        assert (scores[~free] >= levels.mean() + np.log(cap) - 1e-5).all()  # texts at the cap would want more
    residuals = (x.T @ p - np.clip(mean, x.min(axis=0), x.max(axis=0))) / deviation
    t = weights.multipliers * deviation
    for residual, multiplier in zip(residuals, t, strict=True):
        if multiplier:  # an active mean lies at the side of its box that pulls, or beyond by what is elastic
            missed = abs(residual + np.sign(multiplier) * box + _ELASTICITY * multiplier)
            assert min(missed, abs(multiplier)) < 0.1  # as the solver stops: by the projected gradient
        else:
            assert abs(residual) <= box + 0.05
    assert weights.violation == pytest.approx(max(np.abs(residuals).max() - box, 0), abs=1e-9)


def test_weights__within_a_wide_box__stay_at_the_base() -> None:
    features, mean, deviation, base = draw_problem(1, 30, 5)
    weights = maximum_entropy(features, mean, deviation, box=1e3, base=base)
    assert weights.p == pytest.approx(base) and weights.active == 0 and weights.violation == 0
    alike = maximum_entropy(features, mean, deviation, box=1e3)
    assert alike.effective_size == pytest.approx(30) and alike.largest == pytest.approx(1 / 30)


def test_weights__of_a_feature_no_text_has__ignore_it() -> None:
    features = scipy.sparse.csr_array(np.array([[1, 0], [0, 0], [0, 0]], np.float32))
    weights = maximum_entropy(features, np.array([0.9, 0.9]), np.array([0.01, 0.01]), box=1.0)
    assert weights.p[0] == pytest.approx(0.89, abs=2e-3)
    assert weights.multipliers[1] == 0 and weights.violation < 0.1


def test_weights__several_blocks__hold_each_to_its_own_noise() -> None:
    rng = np.random.default_rng(0)
    features = scipy.sparse.csr_array((rng.random((400, 2)) < 0.3).astype(np.float32))
    weights = maximum_entropy(features, np.array([0.6, 0.6]), np.array([0.005, 0.1]), box=2.0)
    reached = features.T @ weights.p
    assert reached == pytest.approx([0.59, 0.4], abs=2e-3)


def test_weights__more_than_a_cap_allows__are_refused() -> None:
    features, mean, deviation, _ = draw_problem(1, 4, 2)
    with pytest.raises(UsageError):
        maximum_entropy(features, mean, deviation, box=1.0, cap=0.2)
    equal = maximum_entropy(features, mean, deviation, box=1.0, cap=0.25)
    assert equal.p == pytest.approx([0.25] * 4)
