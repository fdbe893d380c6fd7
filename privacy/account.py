"""The account of a dataset: what its events come to, and what the next one is judged by.

`balance_after` folds an event into the balance: the budget in force, the exact cost of all releases so far, and what
runs have reserved of the rest. `Account` adds the history for people and statements.

**Claim** (a filter with reservations). Let a budget (epsilon, delta) be fixed before the first release. Then all
releases together are (epsilon, delta)-differentially private, however runs, labels, noise, reservations, their return
and their order are chosen, also in view of earlier releases.

**Proof.** Let D be the exact sum of the costs (mu squared, slack) drawn so far, R >= 0 what is still reserved, in each
part, and T = D + R, `Balance.committed`. A reservation, or a release, is written only if T after it `fits` the budget;
the other events leave T as it is, or make it smaller. `fits` is monotone in both parts, and D <= T, so D fits after
every release, on every path. That is all that a Gaussian-DP filter needs: its bound on mu squared and on the slack is
set by the budget alone and is kept with certainty (sources in `privacy.accounting`). A reservation is computed from
settings and from earlier releases, so making one, or giving it back, reveals nothing. Giving back lowers R and never D:
what was drawn stays spent. A replay is no event and costs nothing. A release is charged under the account's relation,
whatever its noise was calibrated for, and whatever was reserved.

Hence no reservation is needed for the claim; it is there so that a run which began can finish. A release of cost c <=
R_i draws on the R_i of its own run and leaves T as it was: it is never refused, unless the budget was lowered. What
goes beyond R_i needs free room like any other release.

**A budget that is changed** after releases were seen was not fixed before them: from then on the largest budget that
was in force is the only claim. For the same reason the sum of what was spent (`spent_epsilon`) is a reading: it depends
on when one looks, and looking when it pays can exceed it. The budget is what is guaranteed.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from privacy.accounting import Cost, RunningCost, epsilon, fits, mu_squared_for
from privacy.errors import BudgetExceeded, InvalidParameter
from privacy.events import Budget, BudgetChange, Event, Registration, Release, Reservation, Seal, Source, run_of
from privacy.rounding import round_down, round_up
from privacy.units import Relation, Unit


@dataclass(frozen=True)
class Balance:
    """What the next event is judged by.

    Attributes:
        unit, relation: who is protected, against what.
        budget: in force.
        spent: by all releases so far.
        reserved: by run, what it may still draw; runs without a reservation are not in it.
    """

    unit: Unit
    relation: Relation
    budget: Budget
    spent: RunningCost = field(default_factory=RunningCost)
    reserved: Mapping[str, RunningCost] = field(default_factory=dict)

    @property
    def committed(self) -> RunningCost:
        """What was spent and what is reserved, together."""
        return sum(self.reserved.values(), self.spent)

    @property
    def spent_epsilon(self) -> float:
        """Epsilon of all releases so far at the budget's delta: a reading, not a guarantee (proof above)."""
        return epsilon(self.spent.cost, self.budget.delta)

    @property
    def reserved_epsilon(self) -> float:
        """Epsilon, at the budget's delta, of all that is reserved."""
        return epsilon(sum(self.reserved.values(), RunningCost()).cost, self.budget.delta)

    @property
    def left_epsilon(self) -> float:
        """Epsilon, at the budget's delta, of the largest further reservation that still fits (slack neglected)."""
        left = mu_squared_for(self.budget.epsilon, self.budget.delta) - self.committed.cost.mu_squared
        return epsilon(Cost(left), self.budget.delta) if left > 1e-9 else 0.0

    def with_reservation(self, run: str, cost: Cost) -> Balance:
        """Put `cost` in place of what the run has reserved."""
        return self._with_reserved(run, RunningCost().plus(cost))

    def with_release(self, label: str, cost: Cost) -> Balance:
        """Charge a release, first to what its run has reserved."""
        run = run_of(label)
        spent = replace(self, spent=self.spent.plus(cost))
        return spent._with_reserved(run, self.reserved[run].without(cost)) if run in self.reserved else spent

    def _with_reserved(self, run: str, rest: RunningCost) -> Balance:
        others = {name: reserved for name, reserved in self.reserved.items() if name != run}
        return replace(self, reserved=others if rest == RunningCost() else {**others, run: rest})

    def check(self, dataset: str, after: Balance, asked: Cost) -> None:
        """Refuse `asked` if the balance `after` it does not fit; say what was asked, what is left and what to do.

        Raises:
            BudgetExceeded: it does not fit.
        """
        total = after.committed.cost
        if fits(total, self.budget.epsilon, self.budget.delta):
            return
        terms = f"delta {self.budget.delta:g}, {self.relation.value}, unit {self.unit.name}"
        raise BudgetExceeded(
            f"The budget of dataset {dataset!r} refuses this: asked is epsilon "
            f"{round_up(epsilon(asked, self.budget.delta))} ({terms}), "
            f"spent so far is {round_up(self.spent_epsilon)} of {self.budget.epsilon:.10g}, {self._name_reserved()}"
            f"left is {round_down(self.left_epsilon)}. Nothing was drawn and nothing was charged. "
            f"Ask for at most what is left{self._remedy(dataset, total)}"
        )

    def _name_reserved(self) -> str:
        if not self.reserved:
            return ""
        runs = ", ".join(self.reserved)
        return f"reserved is {round_up(self.reserved_epsilon)} by unfinished runs ({runs}), "

    def _remedy(self, dataset: str, total: Cost) -> str:
        """Name the commands that would make room for `total`, where there are any."""
        remedies = ""
        if self.reserved:
            run = shlex.quote(next(iter(self.reserved)))
            remedies = f", or give back what a run that was given up has reserved: pretext ledger release {run}"
        needed = epsilon(total, self.budget.delta) * 1.0001  # room for the share of delta that `fits` sets aside
        proposed = float(round_up(needed)) if needed < 1e3 else self.budget.epsilon
        if proposed <= self.budget.epsilon or not fits(total, proposed, self.budget.delta):
            return f"{remedies}."
        return (
            f"{remedies}, or, if whoever answers for the data agrees, raise the budget: "
            f"pretext ledger budget {shlex.quote(dataset)} --epsilon {proposed:.10g} --delta {self.budget.delta!r}"
        )


def balance_after(before: Balance | None, event: Event) -> Balance:
    """Fold one more event into the balance; before the first one there is none.

    Raises:
        InvalidParameter: the first event is no registration, or a later one follows a release.
    """
    if isinstance(event, Registration):
        if before is not None and before.spent != RunningCost():
            raise InvalidParameter("A dataset from which something was released keeps its registration.")
        return Balance(event.unit, event.relation, event.budget)
    if before is None:
        raise InvalidParameter("The first event of a dataset must be its registration.")
    match event:
        case BudgetChange():
            return replace(before, budget=event.budget)
        case Reservation():
            return before.with_reservation(event.run, event.cost)
        case Release():
            return before.with_release(event.label, event.cost(before.relation))
        case Source() | Seal():
            return before
        case _:
            assert_never(event)


@dataclass(frozen=True)
class Entry:
    """An event in its place: the balance after it, and its digest in the chain (`privacy.chain`). Positions are 1, 2,
    ..."""

    position: int
    event: Event
    balance: Balance
    digest: str


def events_in_force(entries: Sequence[Entry]) -> list[Event]:
    """List the events from the last registration on; what came before it, no release, counts no more."""
    events = [entry.event for entry in entries]
    first = max(place for place, event in enumerate(events) if isinstance(event, Registration))
    return events[first:]


@dataclass(frozen=True)
class Account:
    """A dataset's balance and history.

    Attributes:
        name: of the dataset.
        balance: what all events come to.
        budgets: all that were ever in force since the account was registered for the last time, in that order.
        sources: places that it is read from.
        releases, seals: in order.
        folders: by run that has something reserved, where it lies.
        position, head: place and digest, in the dataset's chain, of the last event that is not a seal: whoever keeps
            them notices later if anything up to there was changed or cut off.
    """

    name: str
    balance: Balance
    budgets: tuple[Budget, ...]
    sources: tuple[str, ...]
    releases: tuple[Release, ...]
    seals: tuple[Seal, ...]
    folders: Mapping[str, str]
    position: int
    head: str

    @classmethod
    def of(cls, name: str, entries: Sequence[Entry]) -> Account:
        """Make the account that entries come to; the first one is a registration, and the last such one counts."""
        last = next(entry for entry in reversed(entries) if not isinstance(entry.event, Seal))
        events = events_in_force(entries)
        return cls(
            name,
            last.balance,
            tuple(event.budget for event in events if isinstance(event, Registration | BudgetChange)),
            tuple(sorted({event.path for event in events if isinstance(event, Source)})),
            tuple(event for event in events if isinstance(event, Release)),
            tuple(event for event in events if isinstance(event, Seal)),
            {event.run: event.folder for event in events if isinstance(event, Reservation)},
            last.position,
            last.digest,
        )

    @property
    def unit(self) -> Unit:
        """Who is protected."""
        return self.balance.unit

    @property
    def relation(self) -> Relation:
        """Under which releases are charged."""
        return self.balance.relation

    @property
    def budget(self) -> Budget:
        """The budget in force."""
        return self.balance.budget

    @property
    def spent(self) -> Cost:
        """All releases together, under the relation of the budget."""
        return self.balance.spent.cost

    @property
    def spent_epsilon(self) -> float:
        """Epsilon of all releases together at the budget's delta: a reading, not a guarantee."""
        return self.balance.spent_epsilon

    @property
    def left_epsilon(self) -> float:
        """Epsilon, at the budget's delta, of the largest further reservation that still fits (slack neglected)."""
        return self.balance.left_epsilon

    def last_seal(self, run: str) -> Seal | None:
        """Find the last seal of a run."""
        return next((seal for seal in reversed(self.seals) if seal.run == run), None)

    def check(self, asked: Cost, label: str) -> None:
        """Refuse a release under `label` if it does not fit, beside all that other runs have reserved.

        Raises:
            BudgetExceeded: it does not fit.
        """
        self.balance.check(self.name, self.balance.with_release(label, asked), asked)
