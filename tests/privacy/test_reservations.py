"""Reservations: a run that began can finish, no budget is ever exceeded, and a start that failed locks nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import (
    Account,
    Budget,
    BudgetExceeded,
    Cost,
    DiscreteGaussian,
    Ledger,
    LedgerConflict,
    Relation,
    Unit,
    calibrate,
    compose,
)
from privacy.account import Balance, balance_after
from privacy.accounting import fits, mu_squared_for
from privacy.bounding import grid_for, sensitivity_squared
from privacy.events import Registration, Reservation
from tests.privacy.helpers import BOUND, BUDGET, ask, cost_of_rounds, gaussian, labels, open_ledger, vote

USER = Unit("user")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "ledger.db")


def cost_of(noise_multiplier: float, rounds: int = 1, relation: Relation = Relation.ADD_REMOVE) -> Cost:
    """What `ask` charges for so many releases."""
    mechanism = gaussian(noise_multiplier)
    return compose([mechanism.cost(4, sensitivity_squared(grid_for(BOUND)[1], True, relation))] * rounds)


def balance(**reserved: float) -> Balance:
    """A balance with mu squared reserved by run."""
    empty = balance_after(None, Registration(USER, Relation.ADD_REMOVE, BUDGET, "now"))
    for run, mu_squared in reserved.items():
        empty = empty.with_reservation(run, Cost(mu_squared, 1e-20))
    return empty


PARTS = st.floats(0, 0.05, allow_subnormal=False)
STEPS = st.lists(st.tuples(st.sampled_from(["reserve", "release", "give back"]), st.sampled_from("abc"), PARTS))


@given(STEPS)
def test_balance__any_steps_that_were_admitted__never_commits_more_than_the_budget(
    steps: list[tuple[str, str, float]],
) -> None:
    """The claim of `privacy.account` on random paths: spent + reserved fits after each step; spent never falls."""
    now = balance()
    for step, run, mu_squared in steps:
        cost = Cost(mu_squared, mu_squared * 1e-20)
        after = now.with_release(f"{run}/x", cost) if step == "release" else now.with_reservation(run, cost)
        if step == "give back":
            after = now.with_reservation(run, Cost())
        try:
            now.check("forum", after, cost)
        except BudgetExceeded:
            continue
        assert after.spent == (now.spent.plus(cost) if step == "release" else now.spent)
        assert fits(after.committed.cost, BUDGET.epsilon, BUDGET.delta)
        assert after.spent.mu_squared <= after.committed.mu_squared
        assert after.spent.slack <= after.committed.slack
        now = after


@given(PARTS, PARTS)
def test_balance__release_within_its_reservation__leaves_what_is_committed_alone(reserved: float, drawn: float) -> None:
    before = balance(a=max(reserved, drawn), b=0.001)
    after = before.with_release("a/votes/0", Cost(min(reserved, drawn), 0.0))
    assert after.committed == before.committed
    assert after.reserved["b"] == before.reserved["b"], "another run's reservation is never drawn on"


def test_reserve__run_drawn_to_its_end__fits_to_the_last_bit(tmp_path: Path) -> None:
    """Others ask in between, and get nothing; the run itself is not refused."""
    rounds = 7
    multiplier = calibrate(1.0, 1e-6, lambda m: cost_of_rounds(m, rounds, dimension=4))
    ledger = open_ledger(tmp_path / "ledger.db")
    ledger.reserve("forum", "run", cost_of(multiplier, rounds), USER)
    for number in range(rounds):
        with pytest.raises(BudgetExceeded, match="run"):
            ask(ledger, f"other/{number}", noise_multiplier=30.0)
        ask(ledger, f"run/votes/{number}", noise_multiplier=multiplier)
    with pytest.raises(BudgetExceeded):
        ask(ledger, f"run/votes/{rounds}", noise_multiplier=multiplier)
    assert ledger.account("forum").spent_epsilon <= 1.0


def test_reserve__more_than_is_left__is_refused_and_changes_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiscreteGaussian, "draw", lambda *_: pytest.fail("noise was drawn"))
    half = Cost(0.6 * mu_squared_for(BUDGET.epsilon, BUDGET.delta))
    ledger.reserve("forum", "one", half, USER, "/runs/one")
    before = ledger.account("forum")
    with pytest.raises(BudgetExceeded, match="pretext ledger release one"):
        ledger.reserve("forum", "two", half, USER)
    assert ledger.account("forum") == before
    assert before.folders == {"one": "/runs/one"}
    assert ledger.give_back("forum", "one")
    ledger.reserve("forum", "two", half, USER)


def test_give_back__after_some_releases__keeps_what_was_drawn(ledger: Ledger) -> None:
    ledger.reserve("forum", "run", cost_of(10.0, 3), USER)
    ask(ledger, "run/votes/0", noise_multiplier=10.0)
    assert ledger.holding("run") == ["forum"]
    assert ledger.give_back("forum", "run")
    assert not ledger.give_back("forum", "run"), "there is nothing left to give"
    account = ledger.account("forum")
    assert (account.balance.reserved, ledger.holding("run")) == ({}, [])
    assert account.spent.mu_squared == pytest.approx(0.01)
    ask(ledger, "run/votes/1", noise_multiplier=10.0)  # from what is free
    assert ledger.account("forum").spent.mu_squared == pytest.approx(0.02)


def test_reserve__covered_already__writes_nothing(ledger: Ledger) -> None:
    ledger.reserve("forum", "run", cost_of(10.0, 3), USER)
    before = ledger.account("forum").position
    for rounds in (3, 1, 0):
        ledger.reserve("forum", "run", cost_of(10.0, rounds), USER)
    assert ledger.account("forum").position == before


def test_replay__with_a_reservation__costs_nothing(ledger: Ledger) -> None:
    ledger.reserve("forum", "run", cost_of(10.0, 2), USER)
    first = ask(ledger, "run/votes/0", noise_multiplier=10.0)
    before = ledger.account("forum")
    np.testing.assert_array_equal(ask(ledger, "run/votes/0", noise_multiplier=10.0), first)
    assert ledger.account("forum").balance == before.balance


def test_release__reserved_under_one_relation__is_charged_under_the_account_s(tmp_path: Path) -> None:
    """What was reserved does not decide what a release costs: under replace-one it is twice as much."""
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.register("forum", "/data/forum.csv", USER, Relation.REPLACE_ONE, BUDGET)
    most = mu_squared_for(BUDGET.epsilon, BUDGET.delta)
    multiplier = (0.7 * most) ** -0.5
    ledger.reserve("forum", "run", cost_of(multiplier), USER)
    with pytest.raises(BudgetExceeded, match="replace-one"):
        ask(ledger, "run/votes/0", noise_multiplier=multiplier)
    assert ledger.account("forum").releases == ()


def test_release__budget_lowered_below_what_is_reserved__is_refused(ledger: Ledger) -> None:
    ledger.reserve("forum", "run", cost_of(5.0), USER)
    ledger.set_budget("forum", Budget(0.1, 1e-6))
    with pytest.raises(BudgetExceeded):
        ask(ledger, "run/votes/0", noise_multiplier=5.0)
    assert ledger.account("forum").budgets == (BUDGET, Budget(0.1, 1e-6))


def test_register__nothing_released__takes_the_new_terms_and_keeps_the_old_in_the_chain(ledger: Ledger) -> None:
    """A start that failed decides nothing for later ones."""
    terms = (Unit("thread"), Relation.REPLACE_ONE, Budget(3.0, 1e-7))
    account = ledger.register("forum", "/data/other.csv", *terms)
    assert (account.unit, account.relation, account.budget) == terms
    assert account.sources == ("/data/other.csv",)
    assert account.position == 4, "two registrations, each with its source"
    assert ledger.register("forum", "/data/other.csv", *terms).position == 4, "the same terms are not written again"
    ledger.release("forum", "votes/0", "digest", vote(), gaussian(50.0), Relation.REPLACE_ONE)
    with pytest.raises(LedgerConflict, match="another privacy unit"):
        ledger.register("forum", "/data/other.csv", USER, Relation.ADD_REMOVE, BUDGET)


def test_register__budget_was_decided__keeps_it(ledger: Ledger) -> None:
    ledger.set_budget("forum", Budget(0.5, 1e-6))
    assert ledger.register("forum", "/data/forum.csv", Unit(None), Relation.ADD_REMOVE, BUDGET).budget.epsilon == 0.5


def test_register__another_run_holds_a_reservation__changes_nothing(ledger: Ledger) -> None:
    ledger.reserve("forum", "run", cost_of(10.0), USER)
    more = Budget(9.0, 1e-6)
    assert ledger.register("forum", "/data/forum.csv", USER, Relation.ADD_REMOVE, more, run="other").budget == BUDGET
    with pytest.raises(LedgerConflict, match="another privacy unit"):
        ledger.register("forum", "/data/forum.csv", Unit(None), Relation.ADD_REMOVE, more, run="other")
    assert ledger.register("forum", "/data/forum.csv", USER, Relation.ADD_REMOVE, more, run="run").budget == more


def test_release__account_registered_for_another_unit_since__is_refused(ledger: Ledger) -> None:
    """Its reservation was given back by hand while it worked, and somebody registered the account anew."""
    ledger.reserve("forum", "run", cost_of(10.0), USER)
    with pytest.raises(LedgerConflict, match="unit"):
        ledger.reserve("forum", "other", cost_of(10.0), Unit(None))
    ledger.give_back("forum", "run")
    ledger.register("forum", "/data/forum.csv", Unit(None), Relation.ADD_REMOVE, BUDGET)
    with pytest.raises(LedgerConflict, match="unit"):
        ask(ledger, "run/votes/0")
    assert ledger.account("forum").releases == ()


def test_register__default_name_of_another_file__is_refused_only_once_it_is_charged(ledger: Ledger) -> None:
    terms = (USER, Relation.ADD_REMOVE, BUDGET)
    assert ledger.register("forum", "/other/forum.csv", *terms, chosen=False).sources == ("/other/forum.csv",)
    ask(ledger, "votes/0")
    with pytest.raises(LedgerConflict, match="taken by another file"):
        ledger.register("forum", "/third/forum.csv", *terms, chosen=False)
    ledger.register("forum", "/other/forum.csv", *terms, chosen=False)
    ledger.register("forum", "/third/forum.csv", *terms)  # somebody said that it is the same people


def test_register__same_file_under_another_path__is_refused(ledger: Ledger) -> None:
    """A hard link, or the file renamed: device and inode tell."""
    terms = (USER, Relation.ADD_REMOVE, BUDGET)
    ledger.register("code", "/data/code.csv", *terms, file="2049:17")
    ledger.release("code", "votes/0", "digest", vote(), gaussian(50.0), Relation.ADD_REMOVE)
    assert ledger.names_of("/data/linked.csv", "2049:17") == ["code"]
    with pytest.raises(LedgerConflict, match=r"same file as /data/code\.csv"):
        ledger.register("linked", "/data/linked.csv", *terms, file="2049:17")
    for file in ("2049:1", "", "049:17"):
        ledger.register(f"other {file}", f"/data/{file}.csv", *terms, file=file)
    assert ledger.register("code", "/data/linked.csv", *terms, file="2049:17").sources == (
        "/data/code.csv", "/data/linked.csv",
    )  # fmt: skip
    ledger.register("linked", "/data/linked.csv", *terms, file="2049:17", confirmed=True)


def test_account__any_run_after_another__names_what_is_reserved(ledger: Ledger) -> None:
    ledger.reserve("forum", "run", cost_of(10.0, 2), USER, "/runs/run")
    ask(ledger, "run/votes/0", noise_multiplier=10.0)
    account: Account = ledger.account("forum")
    assert labels(account) == ["run/votes/0"]
    assert account.balance.reserved["run"].cost.mu_squared == pytest.approx(0.01)
    assert account.left_epsilon < ledger.account("forum", 2).left_epsilon
    reservation = Reservation("run", Cost(), USER, "", "later")
    assert balance_after(account.balance, reservation).left_epsilon > account.left_epsilon
