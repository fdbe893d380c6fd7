"""Lower bounds on epsilon: they hold at the stated rate, come near the truth, and exceed a false claim.

Every statistical test rejects what is right with probability at most 1e-6.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from privacy import InvalidParameter
from privacy.audit import (
    Errors,
    epsilon_from_errors,
    epsilon_in_one_run,
    errors_of,
    gaussian_epsilon,
    mu_from_errors,
)

Floats = NDArray[np.float64]
DELTA = 1e-5


def worlds(mu: float, trials: int, seed: int) -> tuple[Floats, Floats]:
    """Scores of the best attack on a mu-GDP mechanism."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(trials), mu + rng.standard_normal(trials)


def most_alarms(repetitions: int, rate: float) -> int:
    """More of them have a chance of at most 1e-6."""
    return int(stats.binom.isf(1e-6, repetitions, rate))


@pytest.mark.parametrize("mu", [0.0, 1.0, 3.0])
def test_a_bound_exceeds_the_truth_at_most_at_the_stated_rate(mu: float) -> None:
    truth, repetitions, confidence = gaussian_epsilon(mu, DELTA), 150, 0.8
    found = [errors_of(*worlds(mu, 400, seed)) for seed in range(repetitions)]
    alarms = sum(mu_from_errors(errors, confidence) > mu for errors in found)
    assert alarms <= most_alarms(repetitions, 1 - confidence)
    plain = sum(epsilon_from_errors(errors, DELTA, confidence) > truth for errors in found)
    assert plain <= most_alarms(repetitions, 1 - confidence)
    # The test can fail: with the threshold chosen on the trials that are counted, or a claim a third too low, it does.
    if mu == 1.0:
        assert sum(mu_from_errors(errors, confidence) > mu / 1.5 for errors in found) > most_alarms(repetitions, 0.2)


def test_one_run_exceeds_the_truth_at_most_at_the_stated_rate() -> None:
    """Randomised response is the mechanism at which the theorem is tight."""
    truth, repetitions, confidence = 1.0, 150, 0.8

    def alarms(true: float) -> int:
        over = 0
        for seed in range(repetitions):
            rng = np.random.default_rng(seed)
            present = rng.random(200) < 0.5
            told = present == (rng.random(200) < 1 / (1 + math.exp(-true)))
            scores = told + 0.1 * rng.random(200)
            over += epsilon_in_one_run(scores, present, 100, DELTA, confidence) > truth
        return over

    assert alarms(truth) <= most_alarms(repetitions, 1 - confidence)
    assert alarms(1.5) > most_alarms(repetitions, 1 - confidence)


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_bounds_come_near_the_truth_with_many_trials(mu: float) -> None:
    errors = errors_of(*worlds(mu, 200_000, 1))
    assert 0.95 * mu < mu_from_errors(errors, 0.95) <= 1.001 * mu
    # Without the Gaussian form less is proved, but something.
    assert 0.3 * mu < epsilon_from_errors(errors, DELTA, 0.95) < gaussian_epsilon(mu, DELTA)


def test_one_run_comes_near_the_truth_of_randomised_response() -> None:
    rng = np.random.default_rng(2)
    present = rng.random(100_000) < 0.5
    scores = (present == (rng.random(100_000) < 1 / (1 + math.exp(-1.0)))) + 0.1 * rng.random(100_000)
    assert 0.95 < epsilon_in_one_run(scores, present, 90_000, 1e-9, 0.95) < 1.0


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.0])
def test_half_the_noise_is_found_out(mu: float) -> None:
    errors = errors_of(*worlds(2 * mu, 20_000, 3))
    assert mu_from_errors(errors, 1 - 1e-6) > mu


def test_the_theorem_in_one_run_against_its_slow_twin() -> None:
    """The p-value as the paper's appendix writes it, term by term."""
    from privacy.audit import _chance

    def slow(right: int, guesses: int, canaries: int, at: float, delta: float) -> float:
        success = 1 / (1 + math.exp(-at))
        beta = sum(stats.binom.pmf(k, guesses, success) for k in range(right, guesses + 1))
        alpha = total = 0.0
        for i in range(1, right + 1):
            total += stats.binom.pmf(right - i, guesses, success)
            alpha = max(alpha, total / i)
        return min(1.0, beta + alpha * delta * 2 * canaries)

    for case in ((0, 5, 9, 0.0, 0.1), (5, 5, 9, 0.7, 1e-3), (40, 50, 100, 1.0, 1e-4), (31, 50, 50, 2.0, 1e-2)):
        assert _chance(*case) == pytest.approx(slow(*case), rel=1e-9)


def test_a_threshold_is_counted_on_trials_that_did_not_choose_it() -> None:
    # On the first halves a threshold parts the worlds; the second halves say that it was luck.
    errors = errors_of(np.array([0.0, 0.0, 0.0, 5.0, 0.0, 5.0]), np.array([5.0, 5.0, 5.0, 5.0, 0.0, 0.0]))
    assert errors == Errors(2, 3, 2, 3)
    assert mu_from_errors(errors, 0.95) == epsilon_from_errors(errors, DELTA, 0.95) == 0.0


def test_scores_that_are_all_equal_prove_nothing() -> None:
    same = np.zeros(100)
    assert mu_from_errors(errors_of(same, same), 0.5) == 0.0
    assert epsilon_in_one_run(same, np.tile([True, False], 50), 50, DELTA, 0.95) == 0.0


def test_a_perfect_attack_proves_as_much_as_its_trials_allow() -> None:
    errors = errors_of(np.zeros(200), np.ones(200))
    assert errors == Errors(0, 100, 0, 100)
    # 100 trials without an error: the rate is below 3.62 % at confidence 97.5 %.
    assert errors.upper_rates(0.95) == pytest.approx((0.03622, 0.03622), abs=1e-5)
    assert epsilon_from_errors(errors, DELTA, 0.95) == pytest.approx(math.log((1 - 0.03622) / 0.03622), abs=1e-3)
    present = np.arange(200) >= 100
    # 0.05 ^ (1 / 100) = 0.97049 is the success rate at which 100 right guesses of 100 have a chance of 5 %.
    found = epsilon_in_one_run(present.astype(float), present, 100, 1e-12, 0.95)
    assert found == pytest.approx(math.log(0.97049 / 0.02951), abs=1e-3)


def test_a_test_that_is_always_wrong_counts_at_its_rates() -> None:
    assert Errors(5, 5, 3, 3).upper_rates(0.95) == (1.0, 1.0)
    assert epsilon_from_errors(Errors(5, 5, 3, 3), DELTA, 0.95) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Errors(3, 2, 0, 1),
        lambda: Errors(0, 1, -1, 1),
        lambda: Errors(0, 0, 0, 1),
        lambda: errors_of(np.zeros(1), np.zeros(5)),
        lambda: mu_from_errors(Errors(0, 1, 0, 1), 1.0),
        lambda: epsilon_from_errors(Errors(0, 1, 0, 1), 0.0, 0.95),
        lambda: epsilon_in_one_run(np.zeros(4), np.zeros(3, bool), 2, DELTA, 0.95),
        lambda: epsilon_in_one_run(np.zeros(4), np.zeros(4, bool), 5, DELTA, 0.95),
        lambda: epsilon_in_one_run(np.zeros(4), np.zeros(4, bool), 1, DELTA, 0.95),
        lambda: epsilon_in_one_run(np.zeros(4), np.zeros(4, bool), 2, DELTA, 0.0),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidParameter):
        wrong()  # type: ignore[operator]
