"""The releases of a run's votes: replayed where one was drawn before, charged and drawn at once otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pretext.run.records import Candidate, digest_population
from privacy import Bounded, DiscreteGaussian, Ledger, Relation, Release


@dataclass(frozen=True)
class Votes:
    """Where a run's votes are charged, and the noise that they get.

    Attributes:
        ledger: draws, charges and keeps every release.
        dataset: the account that is charged.
        run: id of the run; with the round's number it names a release.
        mechanism: draws the noise of every round.
        relation: the one that the mechanism was calibrated for.
    """

    ledger: Ledger
    dataset: str
    run: str
    mechanism: DiscreteGaussian
    relation: Relation

    def replay(self, number: int, population: Sequence[Candidate]) -> Release | None:
        """Read the release of a round that was drawn before, or None. It costs nothing.

        Raises:
            LedgerConflict: the round was released for another population.
        """
        return self.ledger.replay(self.dataset, self._label(number), digest_population(population))

    def release(self, number: int, population: Sequence[Candidate], bounded: Bounded) -> Release:
        """Charge and draw the noisy histogram of a round, as one act.

        Raises:
            BudgetExceeded: the dataset's budget does not hold it; nothing was drawn.
        """
        subject = digest_population(population)
        return self.ledger.release(self.dataset, self._label(number), subject, bounded, self.mechanism, self.relation)

    def _label(self, number: int) -> str:
        return f"{self.run}/votes/{number}"
