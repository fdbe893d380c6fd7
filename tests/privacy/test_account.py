"""What a dataset's account says about itself, and that no printed number flatters."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import (
    Account,
    Budget,
    BudgetExceeded,
    Cost,
    InvalidParameter,
    Relation,
    Release,
    Seal,
    Unit,
    calibrate,
    compose,
    epsilon,
)
from privacy.account import Entry, balance_after
from privacy.accounting import RunningCost, fits, mu_squared_for
from privacy.bounding import grid_for
from privacy.events import BudgetChange, Event, Registration, Source
from privacy.rounding import round_down, round_up
from tests.privacy.helpers import BOUND, gaussian


def release(noise_multiplier: float, relation: Relation = Relation.ADD_REMOVE) -> Release:
    mechanism = gaussian(noise_multiplier, relation)
    value = np.zeros(4, np.int64)
    return Release("votes/0", "digest", mechanism, grid_for(BOUND)[1], True, relation, value, "now", "code")


def account(*events: Event, relation: Relation = Relation.ADD_REMOVE, budget: Budget | None = None) -> Account:
    registration = Registration(Unit("user"), relation, budget or Budget(1.0, 1e-6), "now")
    entries: list[Entry] = []
    for position, event in enumerate([registration, *events], 1):
        balance = balance_after(entries[-1].balance if entries else None, event)
        entries.append(Entry(position, event, balance, f"digest {position}"))
    return Account.of("forum", entries)


def test_an_account_is_what_the_events_come_to() -> None:
    seal, changed = Seal("run", "digest", "now"), BudgetChange(Budget(2.0, 1e-5), "later")
    events = (Source("/b", "", "now"), release(10.0), Source("/a", "", "now"), changed, release(5.0), seal)
    book = account(*events)
    assert (book.unit, book.relation, book.budget) == (Unit("user"), Relation.ADD_REMOVE, Budget(2.0, 1e-5))
    assert (book.sources, book.seals, len(book.releases)) == (("/a", "/b"), (seal,), 2)
    assert (book.position, book.head) == (6, "digest 6"), "a seal is not what a statement refers to"
    assert book.spent == compose(one.cost(Relation.ADD_REMOVE) for one in book.releases)


def test_a_dataset_is_registered_first_and_once() -> None:
    registration = Registration(Unit("user"), Relation.ADD_REMOVE, Budget(1.0, 1e-6), "now")
    with pytest.raises(InvalidParameter, match="first event"):
        balance_after(None, release(10.0))
    opened = balance_after(None, registration)
    assert balance_after(opened, registration) == opened, "before a release it may be registered anew"
    with pytest.raises(InvalidParameter, match="keeps its registration"):
        balance_after(balance_after(opened, release(10.0)), registration)


COSTS = st.builds(Cost, st.floats(5e-324, 1e300), st.floats(5e-324, 1e300))


@given(st.lists(COSTS, max_size=50))
def test_the_running_cost_is_never_below_the_true_sum_and_is_that_of_all_at_once(costs: list[Cost]) -> None:
    running = RunningCost()
    for cost in costs:
        running = running.plus(cost)
    assert Fraction(running.cost.mu_squared) >= sum(Fraction(cost.mu_squared) for cost in costs)
    assert Fraction(running.cost.slack) >= sum(Fraction(cost.slack) for cost in costs)
    assert running.cost == compose(costs)


def test_the_running_cost_of_very_many_releases_does_not_drift() -> None:
    """A float that is rounded up at each step does, by more than a calibration leaves room for."""
    one, running, rounded = Cost(0.1, 1e-17), RunningCost(), 0.0
    for _ in range(30_000):
        running = running.plus(one)
        rounded = math.nextafter(rounded + one.mu_squared, math.inf)
    assert running.cost.mu_squared == pytest.approx(3e3, rel=1e-15)
    assert rounded / 3e3 - 1 > 1e-12


def test_a_running_cost_is_not_negative() -> None:
    for parts in ((Fraction(-1), Fraction(0)), (Fraction(0), Fraction(-1))):
        with pytest.raises(InvalidParameter, match="negative"):
            RunningCost(*parts)


def test_nothing_released_nothing_spent() -> None:
    assert account().spent == Cost()
    assert account().spent_epsilon == 0.0
    assert account().left_epsilon == pytest.approx(1.0, abs=1e-6)
    assert account().left_epsilon <= 1.0


def test_releases_compose() -> None:
    twice = account(release(10.0), release(5.0))
    assert twice.spent.mu_squared == pytest.approx(1 / 100 + 1 / 25)
    assert twice.spent_epsilon == epsilon(twice.spent, 1e-6)


def test_a_release_is_charged_under_the_relation_of_the_budget() -> None:
    """Noise for add/remove protects half as much (in mu squared) when a record is replaced."""
    one = release(10.0, Relation.ADD_REMOVE)
    assert account(one, relation=Relation.ADD_REMOVE).spent.mu_squared == pytest.approx(0.01)
    assert account(one, relation=Relation.REPLACE_ONE).spent.mu_squared == pytest.approx(0.02)
    other = release(10.0, Relation.REPLACE_ONE)
    assert account(other, relation=Relation.ADD_REMOVE).spent.mu_squared == pytest.approx(0.005)


def test_what_is_left_can_be_asked_for() -> None:
    half_spent = account(release(8.0))
    half_spent.check(Cost((1 - 1e-6) * mu_squared_left(half_spent)), "run/votes/0")
    with pytest.raises(BudgetExceeded):
        half_spent.check(Cost((1 + 1e-6) * mu_squared_left(half_spent)), "run/votes/0")


def mu_squared_left(of: Account) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon(Cost(middle), 1e-6) < of.left_epsilon else (low, middle)
    return low


def test_nothing_is_left_when_the_budget_was_lowered() -> None:
    assert account(release(2.0), budget=Budget(0.1, 1e-6)).left_epsilon == 0.0


def test_a_refusal_says_what_was_asked_what_is_left_and_what_to_do() -> None:
    spent = account(release(8.0))
    asked = release(4.5).cost(Relation.ADD_REMOVE)
    with pytest.raises(BudgetExceeded) as caught:
        spent.check(asked, "run/votes/0")
    message = str(caught.value)
    assert f"asked is epsilon {round_up(epsilon(asked, 1e-6))} (delta 1e-06, add/remove, unit client)" in message
    assert f"spent so far is {round_up(spent.spent_epsilon)} of 1, left is {round_down(spent.left_epsilon)}" in message
    total = compose([spent.spent, asked])
    needed = epsilon(total, 1e-6)
    proposed = re.search(r"pretext ledger budget forum --epsilon (\S+) --delta 1e-06$", message)
    assert proposed
    assert needed <= float(proposed[1]) <= 1.0001 * needed + 1e-4
    assert fits(total, float(proposed[1]), 1e-6)


def test_the_budget_that_a_refusal_proposes_is_enough() -> None:
    asked = release(4.5).cost(Relation.ADD_REMOVE)
    with pytest.raises(BudgetExceeded) as caught:
        account(release(8.0)).check(asked, "run/votes/0")
    proposed = float(str(caught.value).split("--epsilon ")[1].split()[0])
    account(release(8.0), budget=Budget(proposed, 1e-6)).check(asked, "run/votes/0")


def test_an_infinite_cost_is_refused() -> None:
    with pytest.raises(BudgetExceeded, match="infinity") as caught:
        account().check(Cost(0.01, 1.0), "run/votes/0")
    assert str(caught.value).endswith("Ask for at most what is left."), "no budget would be enough"


def test_no_budget_is_proposed_where_the_slack_is_in_the_way() -> None:
    """A larger epsilon makes slack dearer: no command is better than one that would be refused again."""
    asked = Cost(0.01, 1e-11)
    assert epsilon(asked, 1e-6) < 1.0
    with pytest.raises(BudgetExceeded) as caught:
        account().check(asked, "run/votes/0")
    assert str(caught.value).endswith("Ask for at most what is left.")


def test_no_smaller_budget_is_proposed_as_a_raise() -> None:
    """A large budget at a delta for 10^9 people: one release of 1024 bins has more slack than is set aside."""
    asked = gaussian(1.25).cost(1024, grid_for(BOUND)[1])
    with pytest.raises(BudgetExceeded) as caught:
        account(budget=Budget(5.0, 1e-9)).check(asked, "run/votes/0")
    proposed = re.search(r"raise the budget: pretext ledger budget forum --epsilon (\S+)", str(caught.value))
    assert proposed is None or float(proposed[1]) > 5.0


def test_a_refusal_for_the_slack_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is held meanwhile; of larger budgets none would help."""
    tried = 0

    def count_and_fit(cost: Cost, epsilon_target: float, delta_target: float) -> bool:
        nonlocal tried
        tried += 1
        return fits(cost, epsilon_target, delta_target)

    monkeypatch.setattr("privacy.account.fits", count_and_fit)
    with pytest.raises(BudgetExceeded):
        account().check(Cost(0.01, 1e-11), "run/votes/0")
    assert 1 <= tried <= 100


def test_a_cost_of_slack_alone_can_be_checked() -> None:
    """`compose` rounds 0 up to 5e-324."""
    account().check(Cost(0.0, 1e-12), "run/votes/0")


def test_neither_frontier_can_be_traded_for_the_other() -> None:
    """Whatever was spent of mu squared, the same slack is left, and the other way round."""
    gaussian_part = Cost(mu_squared_for(1.0, 1e-6) * (1 - 1e-9))
    slack_part = Cost(0.0, 1e-5 * 1e-6 / (1 + math.e) * (1 - 1e-9))
    for first, second in ((gaussian_part, slack_part), (slack_part, gaussian_part)):
        account().check(first, "run/votes/0")
        account().check(compose([first, second]), "run/votes/0")
        with pytest.raises(BudgetExceeded):
            account().check(compose([first, second, Cost(1e-6 * first.mu_squared, 1e-6 * first.slack)]), "run/votes/0")
        with pytest.raises(BudgetExceeded):
            account().check(Cost(first.mu_squared * (1 + 1e-6), first.slack * (1 + 1e-6)), "run/votes/0")


@given(st.floats(1e-6, 99.0))
def test_rounding_never_flatters(value: float) -> None:
    assert float(round_up(value)) >= value * (1 - 1e-12)
    assert float(round_up(value)) <= value + 2e-4
    assert float(round_down(value)) <= value * (1 + 1e-12)
    assert float(round_down(value)) >= value - 2e-4


def test_rounding_of_the_extremes() -> None:
    assert round_up(0.0) == round_down(0.0) == "0"
    assert round_up(math.inf) == round_up(1e10) == "infinity"
    assert round_up(1e-9) == "0.0001"
    assert round_down(0.99999) == "0.9999"


@given(st.floats(99.0, 9e8))
def test_rounding_never_flatters_large_numbers(value: float) -> None:
    assert value * (1 - 1e-12) <= float(round_up(value)) <= value * (1 + 1e-12) + 2e-4
    assert value * (1 + 1e-12) >= float(round_down(value)) >= value * (1 - 1e-12) - 2e-4


def test_rounding_never_flatters_above_100() -> None:
    assert float(round_up(123.4563)) >= 123.4563
    assert float(round_down(123.4567)) <= 123.4567


@pytest.mark.parametrize("left", [57721.0, 40000.0, 31000.0, 10000.0])
def test_a_nearly_spent_budget_is_refused_without_a_warning(left: float) -> None:
    """Under `-W error` the warning would take the place of the refusal."""
    spent = calibrate(1.29, 3e-6, lambda multiplier: Cost(multiplier**-2 + left**-2)) ** -2
    nearly = account(release(spent**-0.5), budget=Budget(1.29, 3e-6))
    assert 0 <= nearly.left_epsilon < 1e-3
    with pytest.raises(BudgetExceeded, match="left is 0"):
        nearly.check(Cost(2 * left**-2), "run/votes/0")
