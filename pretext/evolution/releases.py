"""The releases of a run's rounds: replayed where one was drawn before, charged and drawn at once otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pretext.run.folder import Run
from privacy import Bounded, DiscreteGaussian, Ledger, Relation, Release


@dataclass(frozen=True)
class RoundReleases:
    """Where a run's rounds are charged, and the noise that they get.

    Attributes:
        ledger: draws, charges and keeps every release.
        dataset: the account that is charged.
        run: what is drawn goes there; its id, with the kind and the round's number, names a release.
        kind: what is released.
        mechanism: draws the noise of every round.
        relation: the one that the mechanism was calibrated for.
    """

    ledger: Ledger
    dataset: str
    run: Run
    kind: Literal["votes", "profile"]
    mechanism: DiscreteGaussian
    relation: Relation

    def replay(self, number: int, subject: str) -> Release | None:
        """Read the release of a round that was drawn before, or None. It costs nothing.

        Args:
            number: of the round.
            subject: digest of the public question.

        Raises:
            LedgerConflict: the round was released for another question.
        """
        return self.ledger.replay(self.dataset, self._label(number), subject)

    def release(self, number: int, subject: str, bounded: Bounded) -> Release:
        """Charge and draw the noisy answer of a round, as one act.

        Raises:
            BudgetExceeded: the dataset's budget does not hold it; nothing was drawn.
            RunFolderError: the folder went away while the clients answered; nothing was drawn.
        """
        self.run.check_in_place()
        return self.ledger.release(self.dataset, self._label(number), subject, bounded, self.mechanism, self.relation)

    def _label(self, number: int) -> str:
        return f"{self.run.id}/{self.kind}/{number}"
