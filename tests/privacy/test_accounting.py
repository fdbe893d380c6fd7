"""Accounting agrees with golden values and an independent accountant, and never errs to the unsafe side."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import (
    Cost,
    DiscreteGaussian,
    InvalidParameter,
    Relation,
    budget_epsilon,
    calibrate,
    compose,
    delta,
    epsilon,
    grid_for,
    rdp_epsilon,
)
from privacy.accounting import check_delta, check_epsilon, fits, mu_squared_for
from tests.privacy.helpers import BOUND, cost_of_rounds, gaussian, mu_squared

PAPER_DELTA = 3e-6
PAPER_ROUNDS = 11

multipliers = st.floats(0.8, 60.0)
deltas = st.floats(1e-9, 1e-2)
targets = st.floats(0.05, 8.0)
ASIDE = 1e-5
"""Share of delta that is set aside for the slack, for targets up to epsilon 10."""
costs = st.builds(Cost, st.floats(1e-5, 30.0), st.floats(0.0, 1e-14))


def rounds(noise_multiplier: float, number: int = PAPER_ROUNDS) -> Cost:
    return Cost(mu_squared([noise_multiplier] * number))


# Golden values


@pytest.mark.parametrize(
    ("noise_multiplier", "exact"), [(11.3, 1.18896), (2.31, 7.08012), (10.4857, 1.29), (2.18051, 7.58)]
)
def test_exact_epsilon_of_the_paper_rounds(noise_multiplier: float, exact: float) -> None:
    assert epsilon(rounds(noise_multiplier), PAPER_DELTA) == pytest.approx(exact, abs=2e-5)


@pytest.mark.parametrize(("noise_multiplier", "printed"), [(11.3, 1.2875), (2.31, 7.5790)])
def test_renyi_epsilon_is_what_the_paper_prints(noise_multiplier: float, printed: float) -> None:
    assert rdp_epsilon(rounds(noise_multiplier), PAPER_DELTA) == pytest.approx(printed, abs=1e-4)


@pytest.mark.parametrize(
    ("target", "noise_multiplier", "tolerance"),
    [
        (1.29, 10.4857, 5e-5),
        (7.58, 2.18051, 5e-6),
        (0.5, 25.14, 5e-3),
        (1.0, 13.25, 5e-3),
        (3.0, 4.883, 5e-4),
        (7.0, 2.332, 5e-4),
    ],
)
def test_calibrated_multiplier_of_the_paper_rounds(target: float, noise_multiplier: float, tolerance: float) -> None:
    assert calibrate(target, PAPER_DELTA, rounds) == pytest.approx(noise_multiplier, abs=tolerance)


def test_one_release_at_epsilon_1() -> None:
    assert calibrate(1.0, 1e-6, lambda multiplier: rounds(multiplier, 1)) == pytest.approx(4.22468, abs=5e-6)
    assert rdp_epsilon(rounds(4.530877, 1), 1e-6) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("target", "relation", "votes"),
    [
        (1.29, Relation.REPLACE_ONE, 41.9),
        (1.29, Relation.ADD_REMOVE, 29.7),
        (7.58, Relation.REPLACE_ONE, 8.72),
        (7.58, Relation.ADD_REMOVE, 6.17),
    ],
)
def test_noise_per_bin_in_votes(target: float, relation: Relation, votes: float) -> None:
    """Eight texts per client, so a squared norm of eight."""
    multiplier = calibrate(target, PAPER_DELTA, rounds)
    assert gaussian(multiplier, relation).standard_deviation == pytest.approx(votes, rel=2e-3)


# An independent accountant


@pytest.mark.parametrize("noise", [[11.3] * 11, [2.31] * 11, [4.22468], [2.0, 5.0, 9.0], [3.0, 3.0, 1.5, 40.0]])
def test_the_closed_form_agrees_with_numerical_composition(noise: list[float]) -> None:
    """Equal and unequal rounds: mu^2 = sum 1 / s_t^2."""
    from dp_accounting import ComposedDpEvent, GaussianDpEvent
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(ComposedDpEvent([GaussianDpEvent(multiplier) for multiplier in noise]))
    numerical = accountant.get_epsilon(PAPER_DELTA)
    exact = epsilon(Cost(mu_squared(noise)), PAPER_DELTA)
    assert exact == pytest.approx(numerical, rel=3e-3)
    assert exact <= numerical + 1e-6, "the numerical accountant rounds up"


@given(costs, deltas)
def test_renyi_accounting_is_never_tighter(cost: Cost, delta_target: float) -> None:
    exact = epsilon(Cost(cost.mu_squared), delta_target)
    assert rdp_epsilon(cost, delta_target) >= exact * (1 - 1e-9)


def true_delta(cost: Cost, at: float) -> float:
    """The curve of Balle and Wang (2018) to sixty digits, plus the slack."""
    import mpmath  # type: ignore[import-untyped]

    with mpmath.workdps(60):
        mu, epsilon_ = mpmath.sqrt(mpmath.mpf(cost.mu_squared)), mpmath.mpf(at)
        slack = (1 + mpmath.exp(epsilon_)) * mpmath.mpf(cost.slack)
        if mu == 0:
            return float(slack)
        far = mpmath.exp(epsilon_) * mpmath.ncdf(-mu / 2 - epsilon_ / mu)
        return float(mpmath.ncdf(mu / 2 - epsilon_ / mu) - far + slack)


@given(costs, st.floats(0.0, 15.0))
def test_delta_equals_the_curve_in_sixty_digits(cost: Cost, at: float) -> None:
    assert delta(cost, at) == pytest.approx(min(1.0, true_delta(cost, at)), rel=1e-6, abs=1e-14)


@settings(max_examples=50)
@given(st.builds(Cost, st.floats(1e-3, 30.0), st.floats(0.0, 1e-15)), deltas)
def test_epsilon_is_safe_in_sixty_digits(cost: Cost, delta_target: float) -> None:
    value = epsilon(cost, delta_target)
    if math.isfinite(value):
        assert true_delta(cost, value) <= delta_target * (1 + 1e-9)


# Never the unsafe side


@given(costs, deltas)
def test_delta_at_epsilon_keeps_within_the_target(cost: Cost, delta_target: float) -> None:
    value = epsilon(cost, delta_target)
    if math.isfinite(value):
        assert delta(cost, value) <= delta_target
        assert value == 0 or delta(cost, value - 1e-6 * max(1.0, value)) > delta_target, "and not wastefully so"


def test_epsilon_is_the_smallest_beside_much_slack() -> None:
    """The slack is a third of delta here, and delta nearly as small as it gets."""
    cost, delta_target = Cost(23.75, 6.608926581027906e-15), 0.0023456092271065734
    value = epsilon(cost, delta_target)
    assert delta(cost, value) <= delta_target < delta(cost, value - 1e-6 * value)


@given(costs, costs, deltas)
def test_more_releases_cost_more(first: Cost, second: Cost, delta_target: float) -> None:
    both = compose([first, second])
    assert both.mu_squared > first.mu_squared
    assert both.slack > first.slack
    assert epsilon(both, delta_target) >= epsilon(first, delta_target) - 1e-9


@given(costs, deltas, st.floats(1.01, 10.0))
def test_a_larger_delta_means_a_smaller_epsilon(cost: Cost, delta_target: float, factor: float) -> None:
    assert epsilon(cost, delta_target * factor) <= epsilon(cost, delta_target) + 1e-9


@given(costs, st.floats(0.0, 5.0), st.floats(0.01, 2.0))
def test_delta_falls_with_epsilon(cost: Cost, at: float, more: float) -> None:
    gaussian_part = Cost(cost.mu_squared)
    assert delta(gaussian_part, at + more) <= delta(gaussian_part, at)


@given(st.lists(costs, max_size=20))
def test_composition_is_rounded_up(parts: list[Cost]) -> None:
    together = compose(parts)
    assert together.mu_squared >= math.fsum(cost.mu_squared for cost in parts)
    assert together.slack >= math.fsum(cost.slack for cost in parts)
    assert together.mu_squared == pytest.approx(sum(cost.mu_squared for cost in parts), rel=1e-12)


def test_nothing_costs_nothing() -> None:
    assert compose([]) == Cost()
    assert epsilon(Cost(), 1e-6) == rdp_epsilon(Cost(), 1e-6) == delta(Cost(), 0.0) == 0.0


@settings(max_examples=60, deadline=None)
@given(targets, deltas, st.integers(1, 20), st.sampled_from(Relation))
def test_a_calibrated_multiplier_keeps_within_the_target_and_is_tight(
    target: float, delta_target: float, number: int, relation: Relation
) -> None:
    def cost_of(noise_multiplier: float) -> Cost:
        return cost_of_rounds(noise_multiplier, number, relation=relation)

    multiplier = calibrate(target, delta_target, cost_of)
    cost = cost_of(multiplier)
    assert epsilon(cost, delta_target) <= target
    assert fits(cost, target, delta_target)
    assert not fits(cost_of((1 - 1e-7) * multiplier), target, delta_target)
    # Where there is more noise than mu squared asks for, it is because less would have too much slack.
    if slack_at(cost_of((1 - 1e-7) * multiplier), target) <= ASIDE * delta_target:
        assert epsilon(cost_of(0.999 * multiplier), delta_target) > target
        assert epsilon(cost, delta_target) > target * (1 - 1e-4)


def slack_at(cost: Cost, at: float) -> float:
    return (1 + math.exp(at)) * cost.slack


def test_an_uneven_schedule_is_calibrated_too() -> None:
    schedule = [1.0, 2.0, 0.5]

    def cost_of(noise_multiplier: float) -> Cost:
        return Cost(mu_squared([noise_multiplier * factor for factor in schedule]))

    multiplier = calibrate(1.0, 1e-6, cost_of)
    assert epsilon(cost_of(multiplier), 1e-6) <= 1.0 < epsilon(cost_of(0.999 * multiplier), 1e-6)


@given(targets, deltas)
def test_mu_squared_for_inverts_epsilon(target: float, delta_target: float) -> None:
    largest = Cost(mu_squared_for(target, delta_target))
    assert epsilon(largest, delta_target * (1 - ASIDE)) == pytest.approx(target, rel=1e-6)
    assert epsilon(largest, delta_target) <= target + 1e-9
    assert epsilon(largest, delta_target) == pytest.approx(target, rel=3e-5)


# Slack


def test_slack_adds_to_delta() -> None:
    without, with_slack = Cost(0.5), Cost(0.5, 1e-7)
    assert delta(with_slack, 1.0) - delta(without, 1.0) == pytest.approx((1 + math.e) * 1e-7)


def test_slack_raises_epsilon() -> None:
    assert epsilon(Cost(0.05), 1e-6) < epsilon(Cost(0.05, 1e-7), 1e-6) < math.inf


@pytest.mark.parametrize("cost", [Cost(0.05, 1e-5), Cost(1e4, 1e-15), Cost(0.05, 1.0)])
def test_epsilon_is_infinite_when_the_slack_alone_is_too_much(cost: Cost) -> None:
    assert epsilon(cost, 1e-6) == math.inf


def test_delta_is_at_most_one() -> None:
    assert delta(Cost(1.0, 0.9), 5.0) == 1.0
    assert delta(Cost(1.0, 1e-10), 1e5) == 1.0


def test_a_target_below_the_slack_is_met_with_more_noise() -> None:
    def cost_of(noise_multiplier: float) -> Cost:
        return cost_of_rounds(noise_multiplier, 11)

    multiplier = calibrate(1.0, 1e-18, cost_of)
    cost = cost_of(multiplier)
    assert fits(cost, 1.0, 1e-18)
    assert epsilon(cost, 1e-18) <= 1.0
    assert not fits(cost_of((1 - 1e-7) * multiplier), 1.0, 1e-18)
    assert multiplier > 10 * calibrate(1.0, 1e-18, rounds), "without slack it would need less noise"


def test_a_target_that_no_noise_of_the_mechanism_meets_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="proof needs 1 to 2\\^50"):
        calibrate(1.0, 1e-30, lambda multiplier: cost_of_rounds(multiplier, 11))


# What fits, when releases are chosen adaptively


@given(st.floats(0.0, 3.0), st.floats(0.0, 1e-7), st.floats(0.05, 25.0), deltas)
def test_what_fits_keeps_within_the_target(mu: float, slack: float, target: float, delta_target: float) -> None:
    for cost in (Cost(mu * mu, slack), Cost(mu * mu, slack * 1e-8 * math.exp(-target)), Cost(mu * mu)):
        if fits(cost, target, delta_target):
            assert delta(cost, target) <= delta_target * (1 + 1e-12)
            assert true_delta(cost, target) <= delta_target * (1 + 1e-9)


@given(st.floats(1e-4, 3.0), st.floats(0.0, 1e-10), st.floats(0.05, 25.0), deltas)
def test_the_two_costs_are_bounded_each_by_itself(mu: float, slack: float, target: float, delta_target: float) -> None:
    """So what is left of the one never depends on how much was spent of the other."""
    both = fits(Cost(mu * mu, slack), target, delta_target)
    assert both == (fits(Cost(mu * mu), target, delta_target) and fits(Cost(0.0, slack), target, delta_target))


@given(targets, deltas)
def test_two_adaptive_frontiers(target: float, delta_target: float) -> None:
    """An adversary who picks the Gaussian frontier or the slack frontier after the first release gains nothing.

    Judged by the total alone, either frontier would go up to all of delta, and a mixture of the two past it.
    """
    most_mu = mu_squared_for(target, delta_target)
    most_slack = ASIDE * delta_target / (1 + math.exp(target))
    corner = Cost(most_mu * (1 - 1e-7), most_slack * (1 - 1e-7))
    assert fits(corner, target, delta_target)
    assert delta(corner, target) <= delta_target
    for beyond in (Cost(most_mu * (1 + 1e-6)), Cost(0.0, most_slack * (1 + 1e-6))):
        assert not fits(beyond, target, delta_target)
        assert delta(beyond, target) <= delta_target * (1 + 1e-4)
    # The slack alone, without any mu squared, is refused although delta by itself would allow 100 000 times as much.
    alone = Cost(0.0, 100 * most_slack)
    assert delta(alone, target) <= 0.002 * delta_target
    assert not fits(alone, target, delta_target)


@pytest.mark.parametrize("part", [-1e-300, -1.0, math.nan, math.inf, -math.inf])
def test_a_cost_is_two_finite_numbers_from_zero(part: float) -> None:
    for parts in ((part, 0.0), (0.0, part), (part, part)):
        with pytest.raises(InvalidParameter, match="not a pair of finite numbers"):
            Cost(*parts)


def test_calibration_finds_noise_where_there_is_some() -> None:
    def cost_of(noise_multiplier: float) -> Cost:
        return cost_of_rounds(noise_multiplier, 11)

    assert epsilon(cost_of(1.5), 1e-8) < 15
    assert epsilon(cost_of(calibrate(15.0, 1e-8, cost_of)), 1e-8) <= 15


def test_slack_without_mu_still_counts() -> None:
    assert delta(Cost(0.0, 0.5), 0.0) >= 0.5
    assert delta(Cost(0.0, 1e-7), 1.0) == pytest.approx((1 + math.e) * 1e-7)
    assert epsilon(Cost(0.0, 1e-6), 1e-6) == math.inf


# The range of the definition


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 2.0, math.nan, math.inf])
def test_bad_deltas(value: float) -> None:
    with pytest.raises(InvalidParameter, match="delta is"):
        check_delta(value)
    with pytest.raises(InvalidParameter):
        epsilon(Cost(1.0), value)
    with pytest.raises(InvalidParameter):
        rdp_epsilon(Cost(1.0), value)
    with pytest.raises(InvalidParameter):
        calibrate(1.0, value, rounds)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_bad_epsilons(value: float) -> None:
    with pytest.raises(InvalidParameter, match="epsilon is"):
        check_epsilon(value)
    with pytest.raises(InvalidParameter):
        calibrate(value, 1e-6, rounds)


def test_the_bound_of_these_tests_is_the_papers() -> None:
    assert BOUND == 8


def test_calibration_beside_other_releases_uses_what_they_leave() -> None:
    fixed = Cost(mu_squared_for(1.0, 1e-6) * 0.3)
    multiplier = calibrate(1.0, 1e-6, lambda m: Cost(m**-2), fixed)
    together = compose([fixed, Cost(multiplier**-2)])
    assert fits(together, 1.0, 1e-6)
    assert epsilon(together, 1e-6) > 0.9999
    with pytest.raises(InvalidParameter, match="leave nothing of epsilon 1"):
        calibrate(1.0, 1e-6, lambda m: Cost(m**-2), Cost(1.0))


@pytest.mark.parametrize("target", [15.0, 30.0, 100.0, 1e3, 1e6])
@pytest.mark.parametrize("delta_target", [1e-5, 1e-6, 1e-8])
def test_a_very_large_budget_has_room(target: float, delta_target: float) -> None:
    # A round of 1024 candidates; the slack alone times e^100 would be beyond any delta.
    release = DiscreteGaussian.for_sum(2.0, Fraction(8), Relation.ADD_REMOVE).cost(1024, grid_for(Fraction(8))[1])
    assert fits(compose([release] * 5), target, delta_target)
    assert fits(Cost(mu_squared_for(target, delta_target) * (1 - 1e-9), release.slack), target, delta_target)
    assert not fits(Cost(mu_squared_for(target, delta_target) * 1.001), target, delta_target)
    assert delta(Cost(mu_squared_for(target, delta_target)), target) <= delta_target


@given(costs, deltas)
@settings(max_examples=60, deadline=None)
def test_budget_epsilon__of_any_cost__is_the_least_that_holds_it(cost: Cost, delta_target: float) -> None:
    least = budget_epsilon(cost, delta_target)
    if least == math.inf:
        around = [epsilon(Cost(cost.mu_squared), delta_target) * (1 + step / 100) for step in range(100)]
        assert not any(fits(cost, target, delta_target) for target in around)
    else:
        assert fits(cost, least, delta_target)
        assert least >= epsilon(Cost(cost.mu_squared), delta_target) * (1 - 1e-6)
        assert least <= 1e-9 or not fits(cost, least * (1 - 1e-5), delta_target)


def test_budget_epsilon__of_nothing__is_almost_nothing() -> None:
    assert budget_epsilon(Cost(), 1e-6) <= 1e-9
