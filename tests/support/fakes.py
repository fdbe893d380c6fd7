"""Stand-ins for what the loop asks: models that answer from a script, and a federation that counts its questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pretext.audit.canary_texts import HashEmbedder
from pretext.clients.voting import Ballot, VoteRule
from pretext.run.records import Candidate
from privacy import Bounded, bounded_sum
from privacy.moments import MomentQuery

Vary = Callable[[Sequence[Candidate]], list[str | None]]


@dataclass
class FakeModels:
    """Embeds by hashing; `varies` answers for the variation; `opened` counts how often all were opened."""

    varies: Vary = lambda parents: [f"{parent.text} again" for parent in parents]
    opened: int = 0

    def open_all(self) -> None:
        self.opened += 1

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return HashEmbedder()(texts)

    def vary(
        self, parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator
    ) -> list[str | None]:
        return self.varies(parents)


@dataclass
class FakeFederation:
    """As many clients as candidates; client i votes i times for candidate i, within the bound. Keeps the ballots."""

    ballots: list[Ballot] = field(default_factory=list)

    def vote(self, ballot: Ballot, rule: VoteRule) -> Bounded:
        self.ballots.append(ballot)
        rows = np.arange(len(ballot.label), dtype=np.int64)
        return bounded_sum(
            rows,
            rows,
            rows.astype(np.float64),
            dimension=len(rows),
            norm_squared=rule.norm_squared,
            normalize=rule.normalize,
        )

    def sum_moments(self, query: MomentQuery) -> Bounded:
        raise AssertionError("the loop asks for votes alone")
