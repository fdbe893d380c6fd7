"""The events in the life of a dataset, and the account: what they come to.

An event is a fact with its time: the dataset was registered, read from a source, given another budget; a noisy value
was released from it; a run folder made from it was sealed. Nothing else ever happens to a dataset. The kinds are a
closed union, `Event`; whatever treats them apart ends in `assert_never`, so that mypy names each place that a new kind
(a reservation, say) concerns.

`balance_after` folds an event into the balance: the budget in force and the exact cost of all releases so far. The
balance is all that the next release is judged by. `Account` adds the history for people and statements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, assert_never

import numpy as np
from numpy.typing import NDArray

from privacy.accounting import Cost, compose, epsilon, fits, mu_squared_for
from privacy.bounding import sensitivity_squared
from privacy.errors import BudgetExceeded, InvalidParameter
from privacy.mechanisms import DiscreteGaussian
from privacy.rounding import round_down, round_up
from privacy.units import Relation, Unit


@dataclass(frozen=True)
class Budget:
    """The most that may ever be spent on a dataset."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class Registration:
    """The first event of every dataset: who is protected, against what, and how much may be spent."""

    KIND: ClassVar = "registration"
    unit: Unit
    relation: Relation
    budget: Budget
    time: str


@dataclass(frozen=True)
class Source:
    """A place from which the dataset is read."""

    KIND: ClassVar = "source"
    path: str
    time: str


@dataclass(frozen=True)
class BudgetChange:
    """A new budget in place of the old one."""

    KIND: ClassVar = "budget"
    budget: Budget
    time: str


@dataclass(frozen=True)
class Release:
    """A noisy value that left the ledger, with everything its cost is computed from.

    Attributes:
        label: its name within the dataset; there is one release for each.
        subject: digest of the public question that it answers.
        mechanism: the noise that was drawn.
        norm_squared: the largest squared norm of one client, in squared grid steps.
        nonnegative: whether every client's vector was entrywise non-negative.
        relation: the one that the noise was calibrated for.
        value: the noisy sum, shape (n,), int64, in grid steps.
        time: when, in UTC.
        code: the program that drew it.
    """

    KIND: ClassVar = "release"
    label: str
    subject: str
    mechanism: DiscreteGaussian
    norm_squared: int
    nonnegative: bool
    relation: Relation
    value: NDArray[np.int64]
    time: str
    code: str

    @property
    def dimension(self) -> int:
        """Number of coordinates n."""
        return int(self.value.shape[0])

    @property
    def noisy(self) -> NDArray[np.float64]:
        """The noisy sum in the query's own unit (votes), shape (n,)."""
        return self.value.astype(np.float64) * self.mechanism.grid

    def cost(self, relation: Relation) -> Cost:
        """Compute what this release costs under `relation`, from the mechanism that drew it."""
        return self.mechanism.cost(self.dimension, sensitivity_squared(self.norm_squared, self.nonnegative, relation))


@dataclass(frozen=True)
class Seal:
    """The digest of a run folder's manifest, as it was when the run was finished."""

    KIND: ClassVar = "seal"
    run: str
    manifest: str
    time: str


Event = Registration | Source | BudgetChange | Release | Seal


@dataclass(frozen=True)
class RunningCost:
    """The sum of the costs of all releases so far, without any rounding error.

    Claim: `cost` is never below the true sum, after any number of releases, and is bit for bit what `compose` gives for
    all of them at once.
    Proof: a cost is a pair of floats, so each part is an integer times a power of two. `Fraction` adds those exactly;
    by induction the sum held here is the true one. `float` of a fraction rounds to nearest: the result is off by at
    most half the distance to its neighbor, so the next float above it is not below the true sum. `compose` takes the
    next float above `fsum`, which also rounds the true sum once, to nearest. A sum is 0 only where nothing was
    released, since every release costs more than 0; there both give 0.
    A float that is rounded up at each release would be safe as well, but it grows by one unit in the last place each
    time: after 100,000 releases by more than the headroom of `calibrate`.

    Raises:
        InvalidParameter: a part is negative.
    """

    mu_squared: Fraction = Fraction(0)
    slack: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if self.mu_squared < 0 or self.slack < 0:
            raise InvalidParameter("A running cost is negative.")

    def plus(self, cost: Cost) -> RunningCost:
        """Add one more release."""
        return RunningCost(self.mu_squared + Fraction(cost.mu_squared), self.slack + Fraction(cost.slack))

    @property
    def cost(self) -> Cost:
        """The sum as floats, rounded up (claim above)."""
        return Cost(_float_above(self.mu_squared), _float_above(self.slack))


@dataclass(frozen=True)
class Balance:
    """What the next release is judged by: who is protected, the budget in force, and what was spent of it."""

    unit: Unit
    relation: Relation
    budget: Budget
    spent: RunningCost = RunningCost()

    @property
    def spent_epsilon(self) -> float:
        """Epsilon of all releases together at the budget's delta."""
        return epsilon(self.spent.cost, self.budget.delta)

    @property
    def left_epsilon(self) -> float:
        """Epsilon, at the budget's delta, of the largest further release that still fits (slack neglected)."""
        left = mu_squared_for(self.budget.epsilon, self.budget.delta) - self.spent.cost.mu_squared
        return epsilon(Cost(left), self.budget.delta) if left > 1e-9 else 0.0

    def check(self, dataset: str, asked: Cost) -> None:
        """Refuse `asked` if it does not fit; say what was asked, what is left and what to do.

        Raises:
            BudgetExceeded: it does not fit.
        """
        total = compose([self.spent.cost, asked])
        if fits(total, self.budget.epsilon, self.budget.delta):
            return
        terms = f"delta {self.budget.delta:g}, {self.relation.value}, unit {self.unit.name}"
        raise BudgetExceeded(
            f"The budget of dataset {dataset!r} refuses this: asked is epsilon "
            f"{round_up(epsilon(asked, self.budget.delta))} ({terms}), "
            f"spent so far is {round_up(self.spent_epsilon)} of {self.budget.epsilon:.10g}, "
            f"left is {round_down(self.left_epsilon)}. Nothing was drawn and nothing was charged. "
            f"Ask for at most what is left{self._remedy(dataset, total)}"
        )

    def _remedy(self, dataset: str, total: Cost) -> str:
        """Name the command that would make room for `total`, where a finite epsilon can."""
        needed = epsilon(total, self.budget.delta) * 1.0001  # room for the share of delta that `fits` sets aside
        proposed = float(round_up(needed)) if needed < 1e3 else self.budget.epsilon
        if proposed <= self.budget.epsilon or not fits(total, proposed, self.budget.delta):
            return "."
        return (
            ", or, if whoever answers for the data agrees, raise the budget: "
            f"pretext ledger budget {dataset} --epsilon {proposed:.10g} --delta {self.budget.delta!r}"
        )


def balance_after(before: Balance | None, event: Event) -> Balance:
    """Fold one more event into the balance; before the first one there is none.

    Raises:
        InvalidParameter: the first event is no registration, or a later one is.
    """
    if before is None:
        if isinstance(event, Registration):
            return Balance(event.unit, event.relation, event.budget)
        raise InvalidParameter("The first event of a dataset must be its registration.")
    match event:
        case Registration():
            raise InvalidParameter("A dataset is registered once.")
        case BudgetChange():
            return replace(before, budget=event.budget)
        case Release():
            return replace(before, spent=before.spent.plus(event.cost(before.relation)))
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


@dataclass(frozen=True)
class Account:
    """A dataset's balance and history.

    `position` and `head` are place and digest, in the dataset's chain, of the last event that is not a seal: whoever
    keeps them notices later if anything up to there was changed or cut off.
    """

    name: str
    balance: Balance
    sources: tuple[str, ...]
    releases: tuple[Release, ...]
    seals: tuple[Seal, ...]
    position: int
    head: str

    @classmethod
    def of(cls, name: str, entries: Sequence[Entry]) -> Account:
        """Make the account that entries come to; the first one is the registration."""
        events = [entry.event for entry in entries]
        last = next(entry for entry in reversed(entries) if not isinstance(entry.event, Seal))
        return cls(
            name,
            last.balance,
            tuple(sorted(event.path for event in events if isinstance(event, Source))),
            tuple(event for event in events if isinstance(event, Release)),
            tuple(event for event in events if isinstance(event, Seal)),
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
        """Epsilon of all releases together at the budget's delta."""
        return self.balance.spent_epsilon

    @property
    def left_epsilon(self) -> float:
        """Epsilon, at the budget's delta, of the largest further release that still fits (slack neglected)."""
        return self.balance.left_epsilon

    def last_seal(self, run: str) -> Seal | None:
        """Find the last seal of a run."""
        return next((seal for seal in reversed(self.seals) if seal.run == run), None)

    def check(self, asked: Cost) -> None:
        """Refuse `asked` if it does not fit. Raises BudgetExceeded."""
        self.balance.check(self.name, asked)


def _float_above(exact: Fraction) -> float:
    return math.nextafter(float(exact), math.inf) if exact else 0.0
