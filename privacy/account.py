"""What the ledger holds for a data set, as values: its budget, its releases, and what they cost together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.accounting import Cost, compose, epsilon, fits, mu_squared_for
from privacy.bounding import sensitivity_squared
from privacy.errors import BudgetExceeded
from privacy.mechanisms import DiscreteGaussian
from privacy.rounding import round_down, round_up
from privacy.units import Relation, Unit


@dataclass(frozen=True)
class Budget:
    """The most that may ever be spent on a data set."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class Release:
    """A noisy value that left the ledger, with everything its cost is computed from.

    `noisy` is in the query's own unit (votes), shape (n,); `relation` is the one its noise was calibrated for.
    """

    id: int
    label: str
    subject: str
    mechanism: DiscreteGaussian
    dimension: int
    norm_squared: int
    nonnegative: bool
    relation: Relation
    noisy: NDArray[np.float64]
    time: str
    code: str

    def cost(self, relation: Relation) -> Cost:
        """What this release costs under `relation`, recomputed from the mechanism that drew it."""
        return self.mechanism.cost(self.dimension, sensitivity_squared(self.norm_squared, self.nonnegative, relation))


@dataclass(frozen=True)
class Seal:
    """The digest of a run folder's manifest, as it was when the run was finished."""

    run: str
    manifest: str
    time: str


@dataclass(frozen=True)
class Account:
    """A data set's budget and everything ever released from it.

    `position` and `head` are place and digest, in the data set's chain (`privacy.chain`), of the last entry that is not
    a seal: whoever keeps them notices later if anything up to there was changed or cut off.
    """

    name: str
    unit: Unit
    relation: Relation
    budget: Budget
    sources: tuple[str, ...]
    releases: tuple[Release, ...]
    seals: tuple[Seal, ...] = ()
    position: int = 0
    head: str = ""

    @property
    def spent(self) -> Cost:
        """All releases together, under the relation of the budget."""
        return compose(release.cost(self.relation) for release in self.releases)

    @property
    def spent_epsilon(self) -> float:
        """Epsilon of all releases together at the budget's delta."""
        return epsilon(self.spent, self.budget.delta)

    @property
    def left_epsilon(self) -> float:
        """Epsilon, at the budget's delta, of the largest further release that still fits (slack neglected)."""
        left = mu_squared_for(self.budget.epsilon, self.budget.delta) - self.spent.mu_squared
        return epsilon(Cost(left), self.budget.delta) if left > 1e-9 else 0.0

    def sealed(self, run: str) -> Seal | None:
        """The last seal of a run."""
        return next((seal for seal in reversed(self.seals) if seal.run == run), None)

    def check(self, asked: Cost) -> None:
        """Raises BudgetExceeded, saying what was asked, what is left and what to do, if `asked` does not fit."""
        total = compose([self.spent, asked])
        if fits(total, self.budget.epsilon, self.budget.delta):
            return
        terms = f"delta {self.budget.delta:g}, {self.relation.value}, unit {self.unit.name}"
        raise BudgetExceeded(
            f"The budget of data set {self.name!r} refuses this: asked is epsilon "
            f"{round_up(epsilon(asked, self.budget.delta))} ({terms}), "
            f"spent so far is {round_up(self.spent_epsilon)} of {self.budget.epsilon:.10g}, "
            f"left is {round_down(self.left_epsilon)}. Nothing was drawn and nothing was charged. "
            f"Ask for at most what is left{self._remedy(total)}"
        )

    def _remedy(self, total: Cost) -> str:
        """The command that would make room for `total`, where a finite epsilon can."""
        needed = epsilon(total, self.budget.delta) * 1.0001  # room for the share of delta that `fits` sets aside
        proposed = float(round_up(needed)) if needed < 1e3 else self.budget.epsilon
        if proposed <= self.budget.epsilon or not fits(total, proposed, self.budget.delta):
            return "."
        return (
            ", or, if whoever answers for the data agrees, raise the budget: "
            f"pretext ledger budget {self.name} --epsilon {proposed:.10g} --delta {self.budget.delta!r}"
        )
