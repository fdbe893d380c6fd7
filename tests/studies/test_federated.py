"""Federated training: it learns, every update is bounded, and the trees' noise is what the accounting says."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from comparison.federated import (
    Server,
    Vector,
    clip_update,
    epoch_cohorts,
    poisson_cohorts,
    train_federated,
    tree_noise,
    white_noise,
)
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

updates = hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(width=32, allow_nan=True, allow_infinity=True))


@example(np.array([2.6120628e38], np.float32), 0.125)  # the factor is no normal float32
@given(updates, st.floats(1e-6, 1e6))
def test_an_update_never_exceeds_the_clip_norm(update: Vector, norm: float) -> None:
    bounded = clip_update(update, norm)
    assert np.isfinite(bounded).all()
    assert np.linalg.norm(bounded.astype(np.float64)) <= norm
    assert bounded.dtype == np.float32


def test_a_short_update_stays_and_a_long_one_keeps_its_direction() -> None:
    update = np.array([3.0, 4.0], np.float32)
    np.testing.assert_array_equal(clip_update(update, 5.0), update)
    np.testing.assert_allclose(clip_update(update, 1.0), [0.6, 0.8], rtol=1e-5)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 10), st.integers(0, 11))
def test_a_client_moves_a_steps_sum_by_the_clip_norm_at_most(seed: int, clip: float, gone: int) -> None:
    """The proof's sensitivity: one step over neighboring sets of clients, whatever the updates are."""
    rng = np.random.default_rng(seed)
    table = (rng.standard_normal((12, 5)) * rng.choice([1e-3, 1, 1e3], (12, 1))).astype(np.float32)
    server = Server(clip=clip, learning_rate=1.0, momentum=0.0, cohort=1.0)

    def after(cohort: np.ndarray) -> Vector:
        return train_federated(np.zeros(5, np.float32), [cohort], zeros(5), lambda _, client: table[client], server)

    everyone = np.arange(12)
    moved = np.linalg.norm((after(everyone) - after(np.delete(everyone, gone))).astype(np.float64))
    assert moved <= clip * (1 + 1e-4)  # float32 sums of twelve


def zeros(dimension: int):
    return white_noise(0.0, dimension, np.random.default_rng(0))


@pytest.mark.parametrize("way", ["poisson", "epochs"])
def test_a_planted_pattern_is_learned_without_noise(way: str) -> None:
    """Clients pull a linear model toward their own targets, which lie around a planted one."""
    rng = np.random.default_rng(5)
    planted = np.array([2.0, -1.0, 0.5], np.float32)
    targets = (planted + 0.3 * rng.standard_normal((400, 3))).astype(np.float32)

    def update(model: Vector, client: int) -> Vector:
        return np.float32(0.2) * (targets[client] - model)

    cohorts = poisson_cohorts(400, 0.25, 40, rng) if way == "poisson" else epoch_cohorts(400, 10, 4, rng)
    server = Server(clip=0.2, learning_rate=1.0, momentum=0.5, cohort=100)
    learned = train_federated(np.zeros(3, np.float32), cohorts, zeros(3), update, server)
    np.testing.assert_allclose(learned, planted, atol=0.1)


def test_everyone_joins_an_epoch_once_at_a_step_of_its_own() -> None:
    steps = list(epoch_cohorts(50, 2, 4, np.random.default_rng(0)))
    assert len(steps) == 8
    for half in (steps[:4], steps[4:]):
        assert sorted(np.concatenate(half).tolist()) == list(range(50))


def test_who_joins_does_not_depend_on_how_many_others_there_are() -> None:
    """Add/remove: the last client's absence changes nobody's step within the first epoch."""
    more = list(epoch_cohorts(50, 1, 4, np.random.default_rng(0)))
    fewer = list(epoch_cohorts(49, 1, 4, np.random.default_rng(0)))
    assert [step[step < 49].tolist() for step in more] == [step.tolist() for step in fewer]


def test_poisson_rounds_hold_the_rate() -> None:
    """False alarm below 1e-6: the mean over 200 rounds of 1000 clients has standard deviation 0.67."""
    sizes = [len(cohort) for cohort in poisson_cohorts(1000, 0.1, 200, np.random.default_rng(1))]
    assert abs(np.mean(sizes) - 100) < 3.5
    assert np.std(sizes) > 5


def prefix_variances(noise, steps: int) -> np.ndarray:
    return np.stack(list(islice(noise, steps))).cumsum(axis=0).var(axis=1)


def test_a_trees_prefix_sums_have_one_node_for_each_one_in_binary() -> None:
    """False alarm below 1e-6 for 16 variances of 40,000 draws: relative standard deviation 0.7 %."""
    variances = prefix_variances(tree_noise(2.0, 40_000, 8, np.random.default_rng(2)), 16)
    ones = np.array([(step - 1) % 8 + 1 for step in range(1, 17)])
    nodes = np.array([bin(step).count("1") for step in ones]) + np.repeat([0, 1], 8)  # the first tree's sum stays
    np.testing.assert_allclose(variances, 4.0 * nodes, rtol=0.04)


def test_white_noise_would_fail_the_same_test() -> None:
    variances = prefix_variances(white_noise(2.0, 40_000, np.random.default_rng(2)), 8)
    np.testing.assert_allclose(variances, 4.0 * np.arange(1, 9), rtol=0.04)
    assert variances[7] > 7 * 4.0  # a tree's is 1 node


def test_noise_of_a_step_is_the_multiplier_times_the_clip_norm() -> None:
    """False alarm below 1e-6 at 40,000 draws; 20 % off fails."""
    server = Server(clip=0.5, learning_rate=1.0, momentum=0.0, cohort=10)
    nobody = [np.array([], np.int64)]
    moved = train_federated(
        np.zeros(40_000, np.float32), nobody, white_noise(3.0, 40_000, np.random.default_rng(4)), never, server
    )
    assert moved.std() == pytest.approx(3.0 * 0.5 / 10, rel=0.02)


def never(model: Vector, client: int) -> Vector:
    raise AssertionError


def test_adaptive_steps_have_the_learning_rate_at_first_and_follow_the_sign_of_the_mean() -> None:
    server = Server(clip=10.0, learning_rate=0.1, momentum=0.9, cohort=1.0, adaptive=True)
    mean = np.array([2.0, -0.01, 0.0], np.float32)
    for steps in (1, 5):
        model = train_federated(
            np.zeros(3, np.float32), [np.array([0])] * steps, zeros(3), lambda _model, _client: mean, server
        )
        np.testing.assert_allclose(model, [0.1 * steps, -0.1 * steps, 0], rtol=1e-3)
