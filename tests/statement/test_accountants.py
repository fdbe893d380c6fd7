"""Other accountants beside the exact one: in the order that theory gives them, and equal to golden values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretext.statement.accountants import (
    AccountantBound,
    basic_epsilon,
    classical_epsilon,
    compare_accountants,
    epsilon_curve,
    zcdp_epsilon,
)
from privacy import Cost, Relation, epsilon
from tests.privacy.helpers import cost_of_rounds
from tests.privacy.test_account import release


def bounds_by_name(costs: list[Cost], delta: float) -> dict[str, float]:
    bounds: list[AccountantBound] = compare_accountants(costs, delta)
    assert all(bound.words for bound in bounds)
    return {bound.name: bound.epsilon for bound in bounds}


@given(
    st.lists(st.floats(2.0, 200.0), min_size=1, max_size=30),
    st.sampled_from([1e-3, 1e-6, 1e-9]),
)
@settings(max_examples=40)
def test_the_order_that_theory_gives(multipliers: list[float], delta: float) -> None:
    """Exact first; Renyi and zCDP by the same conversion agree; the classical conversion and basic composition above.

    The orders of Renyi accounting are a grid, hence the hundredth; where it finds nothing (tiny costs) it says 0.
    """
    costs = [Cost(multiplier**-2) for multiplier in multipliers]
    bounds = bounds_by_name(costs, delta)
    if bounds["Renyi"] > 0.02:
        assert bounds["exact"] <= bounds["Renyi"] * (1 + 1e-8)
        assert bounds["Renyi"] <= bounds["zCDP, classical"] * 1.01
    assert bounds["zCDP"] == pytest.approx(bounds["Renyi"], rel=1e-6, abs=1e-6)
    assert bounds["exact"] <= bounds["zCDP, classical"]
    assert bounds["exact"] <= bounds["basic"] * (1 + 1e-8) + 1e-8


@pytest.mark.parametrize(("multiplier", "exact", "renyi"), [(11.3, 1.18896, 1.2875), (2.31, 7.08012, 7.5790)])
def test_golden_values_of_the_paper(multiplier: float, exact: float, renyi: float) -> None:
    bounds = bounds_by_name([Cost(multiplier**-2)] * 11, 3e-6)
    assert bounds["exact"] == pytest.approx(exact, abs=1e-5)
    assert bounds["Renyi"] == pytest.approx(renyi, abs=2e-4)
    assert bounds["exact"] < bounds["Renyi"] < bounds["zCDP, classical"] < bounds["basic"]
    rho = 11 / (2 * multiplier**2)
    assert bounds["zCDP, classical"] == pytest.approx(rho + 2 * math.sqrt(rho * math.log(1 / 3e-6)))


def test_of_one_release_basic_composition_is_exact() -> None:
    costs = [cost_of_rounds(5.0, 1)]
    assert basic_epsilon(costs, 1e-6) == epsilon(costs[0], 1e-6) < zcdp_epsilon(costs, 1e-6)


def test_nothing_released_costs_nothing_by_any() -> None:
    assert set(bounds_by_name([], 1e-6).values()) == {0.0}
    assert classical_epsilon([], 1e-6) == 0


def test_the_curve_is_exact_and_falls() -> None:
    releases = [release(10.0), release(20.0)]
    points = epsilon_curve(releases, [1e-3, 1e-6, 1e-9])
    total = Cost(1 / 100 + 1 / 400)
    for point in points:
        assert point.epsilon(Relation.ADD_REMOVE) == pytest.approx(epsilon(total, point.delta), abs=1e-6)
        assert point.epsilon(Relation.REPLACE_ONE) == pytest.approx(
            epsilon(Cost(2 * total.mu_squared), point.delta), abs=1e-6
        )
        assert point.replace_one > point.add_remove
    assert points[0].add_remove < points[1].add_remove < points[2].add_remove


def test_where_slack_alone_is_more_than_delta_the_curve_is_infinite() -> None:
    assert epsilon_curve([release(0.2)], [1e-12])[0].add_remove == math.inf
