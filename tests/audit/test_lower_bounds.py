"""Lower bounds on epsilon: they hold at the stated rate, come near the truth, and exceed a false claim.

Every statistical test rejects what is right with probability at most 1e-6.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from pretext.audit.lower_bounds import (
    ErrorCounts,
    _bound_chance,
    count_errors,
    epsilon_from_errors,
    epsilon_from_mu,
    epsilon_in_one_run,
    mu_from_errors,
)
from privacy import InvalidParameter

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
    truth, repetitions, confidence = epsilon_from_mu(mu, DELTA), 150, 0.8
    counts = [count_errors(*worlds(mu, 400, seed)) for seed in range(repetitions)]
    alarms = sum(mu_from_errors(errors, confidence) > mu for errors in counts)
    assert alarms <= most_alarms(repetitions, 1 - confidence)
    alarms_of_any_mechanism = sum(epsilon_from_errors(errors, DELTA, confidence) > truth for errors in counts)
    assert alarms_of_any_mechanism <= most_alarms(repetitions, 1 - confidence)
    # The test can fail: with the threshold chosen on the trials that are counted, or a claim a third too low, it does.
    if mu == 1.0:
        assert sum(mu_from_errors(errors, confidence) > mu / 1.5 for errors in counts) > most_alarms(repetitions, 0.2)


@pytest.mark.slow
def test_one_run_exceeds_the_truth_at_most_at_the_stated_rate() -> None:
    """Randomized response is the mechanism at which the theorem is tight."""
    truth, repetitions, confidence = 1.0, 150, 0.8

    def alarms(true: float) -> int:
        over = 0
        for seed in range(repetitions):
            rng = np.random.default_rng(seed)
            present = rng.random(200) < 0.5
            responses = present == (rng.random(200) < 1 / (1 + math.exp(-true)))
            scores = responses + 0.1 * rng.random(200)
            over += epsilon_in_one_run(scores, present, 100, DELTA, confidence) > truth
        return over

    assert alarms(truth) <= most_alarms(repetitions, 1 - confidence)
    assert alarms(1.5) > most_alarms(repetitions, 1 - confidence)


@pytest.mark.slow
@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_bounds_come_near_the_truth_with_many_trials(mu: float) -> None:
    errors = count_errors(*worlds(mu, 200_000, 1))
    assert 0.95 * mu < mu_from_errors(errors, 0.95) <= 1.001 * mu
    # Without the Gaussian form less is proved, but something.
    assert 0.3 * mu < epsilon_from_errors(errors, DELTA, 0.95) < epsilon_from_mu(mu, DELTA)


def test_one_run_comes_near_the_truth_of_randomized_response() -> None:
    rng = np.random.default_rng(2)
    present = rng.random(100_000) < 0.5
    scores = (present == (rng.random(100_000) < 1 / (1 + math.exp(-1.0)))) + 0.1 * rng.random(100_000)
    assert 0.95 < epsilon_in_one_run(scores, present, 90_000, 1e-9, 0.95) < 1.0


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.0])
def test_half_the_noise_is_found_out(mu: float) -> None:
    errors = count_errors(*worlds(2 * mu, 20_000, 3))
    assert mu_from_errors(errors, 1 - 1e-6) > mu


def most_right(right: int, guesses: int, canaries: int, at: float, delta: float) -> float:
    """The largest chance of so many right guesses that any (at, delta)-DP mechanism has, as a linear program.

    Unknowns: the chance of each number of right guesses, and how far each exceeds what a turned coin allows.
    """
    n, choose = guesses + 1, [math.comb(guesses, k) for k in range(guesses + 1)]
    better, worse = np.zeros((n, 3 * n)), np.zeros((n, 3 * n))
    for k in range(n):
        if k > 0:  # one of k right guesses turns wrong
            better[k, [k, k - 1, n + k]] = k, -math.exp(at) * k * choose[k] / choose[k - 1], -1
        if k < guesses:
            left = guesses - k
            worse[k, [k, k + 1, 2 * n + k]] = left, -math.exp(at) * left * choose[k] / choose[k + 1], -1
    excess, whole = np.zeros((1, 3 * n)), np.zeros((1, 3 * n))
    excess[0, n:], whole[0, :n] = 1, 1
    gain = np.zeros(3 * n)
    gain[right:n] = -1
    limits = np.append(np.zeros(2 * n), delta * canaries)
    return -float(optimize.linprog(gain, np.vstack([better, worse, excess]), limits, whole, [1.0]).fun)


@pytest.mark.parametrize(("guesses", "canaries"), [(1, 1), (3, 3), (3, 30), (8, 16), (20, 40)])
@pytest.mark.parametrize("at", [0.0, 0.7, 3.0])
def test_the_bound_in_one_run_is_what_the_worst_mechanism_reaches(guesses: int, canaries: int, at: float) -> None:
    for delta in (1e-4, 1e-3):
        for right in range(1, guesses + 1):
            bound = _bound_chance(right, guesses, canaries, at, delta)
            assert bound == pytest.approx(most_right(right, guesses, canaries, at, delta), abs=2e-6)


def test_three_coins_that_exceed_the_published_bound() -> None:
    delta = 0.01
    output = {wrong: (1 - 7 * delta) / 8 if all(wrong) else (1 + delta) / 8 for wrong in product([0, 1], repeat=3)}
    turned = sum(max(0.0, chance - output[1 - wrong[0], *wrong[1:]]) for wrong, chance in output.items())
    assert turned == pytest.approx(delta)  # (0, delta)-DP
    published = 7 / 8 + 2 * 3 * delta / 8
    assert published < 1 - output[1, 1, 1] == pytest.approx(_bound_chance(1, 3, 3, 0.0, delta))


def test_chances_too_small_for_a_float_keep_their_delta() -> None:
    assert 1e-4 < _bound_chance(5000, 5000, 10_000, 0.0, 1e-4) == pytest.approx(2e-4, rel=1e-3)
    assert _bound_chance(1, 5000, 10_000, 9.0, 1e-9) == 1.0


def test_a_threshold_is_counted_on_trials_that_did_not_choose_it() -> None:
    # On the first halves a threshold parts the worlds; the second halves say that it was luck.
    errors = count_errors(np.array([0.0, 0.0, 0.0, 5.0, 0.0, 5.0]), np.array([5.0, 5.0, 5.0, 5.0, 0.0, 0.0]))
    assert errors == ErrorCounts(2, 3, 2, 3)
    assert mu_from_errors(errors, 0.95) == epsilon_from_errors(errors, DELTA, 0.95) == 0.0


def test_scores_that_are_all_equal_prove_nothing() -> None:
    same = np.zeros(100)
    assert mu_from_errors(count_errors(same, same), 0.5) == 0.0
    assert epsilon_in_one_run(same, np.tile([True, False], 50), 50, DELTA, 0.95) == 0.0
    coins = np.arange(100) < 50
    assert epsilon_in_one_run(-coins.astype(float), coins, 50, DELTA, 0.95) == 0.0  # every guess is wrong


def test_a_perfect_attack_proves_as_much_as_its_trials_allow() -> None:
    errors = count_errors(np.zeros(200), np.ones(200))
    assert errors == ErrorCounts(0, 100, 0, 100)
    # 100 trials without an error: the rate is below 3.62 % at confidence 97.5 %.
    assert errors.upper_rates(0.95) == pytest.approx((0.03622, 0.03622), abs=1e-5)
    assert epsilon_from_errors(errors, DELTA, 0.95) == pytest.approx(math.log((1 - 0.03622) / 0.03622), abs=1e-3)
    present = np.arange(200) >= 100
    # 0.05 ^ (1 / 100) = 0.97049 is the success rate at which 100 right guesses of 100 have a chance of 5 %.
    bound = epsilon_in_one_run(present.astype(float), present, 100, 1e-12, 0.95)
    assert bound == pytest.approx(math.log(0.97049 / 0.02951), abs=1e-3)


def test_a_test_that_is_always_wrong_counts_at_its_rates() -> None:
    assert ErrorCounts(5, 5, 3, 3).upper_rates(0.95) == (1.0, 1.0)
    assert epsilon_from_errors(ErrorCounts(5, 5, 3, 3), DELTA, 0.95) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ErrorCounts(3, 2, 0, 1),
        lambda: ErrorCounts(0, 1, -1, 1),
        lambda: ErrorCounts(0, 0, 0, 1),
        lambda: count_errors(np.zeros(1), np.zeros(5)),
        lambda: mu_from_errors(ErrorCounts(0, 1, 0, 1), 1.0),
        lambda: epsilon_from_errors(ErrorCounts(0, 1, 0, 1), 0.0, 0.95),
        lambda: epsilon_in_one_run(np.zeros(4), np.zeros(3, bool), 2, DELTA, 0.95),
        lambda: epsilon_in_one_run(np.zeros(4), np.zeros(4, bool), 5, DELTA, 0.95),
        lambda: epsilon_in_one_run(np.zeros(4), np.zeros(4, bool), 1, DELTA, 0.95),
        lambda: epsilon_in_one_run(np.zeros(4), np.zeros(4, bool), 2, DELTA, 0.0),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidParameter):
        wrong()  # type: ignore[operator]
