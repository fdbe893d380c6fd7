"""The clients' side: embed the texts once, then vote. Only a `Bounded` leaves this module."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pretext.clients.nearest import find_nearest
from pretext.clients.private_data import PrivateTexts
from pretext.vectors import Embedder
from privacy import Bounded, bounded_sum
from privacy.moments import MomentQuery, bounded_moments


@dataclass(frozen=True)
class Ballot:
    """The question to the clients: the public positions of the candidates.

    Attributes:
        points: shape (n, d), unit rows.
        label: shape (n,), int64, each candidate's position in the list of labels; all 0 without labels.
    """

    points: NDArray[np.float32]
    label: NDArray[np.int64]


@dataclass(frozen=True)
class VoteRule:
    """How a client votes. All public.

    Attributes:
        nearest: a text's one vote is split evenly among this many candidates.
        norm_squared: bound on the squared L2 norm of a client's votes over all candidates and labels together.
        normalize: scale every client up to the bound too.
    """

    nearest: int
    norm_squared: Fraction
    normalize: bool


@dataclass(frozen=True)
class Clients:
    """Clients in this process. The repr shows nothing.

    Attributes:
        embeddings: shape (m, d), unit rows, one per text.
        client: shape (m,), int64, whose text it is.
        label: shape (m,), int64.
    """

    embeddings: NDArray[np.float32] = field(repr=False)
    client: NDArray[np.int64] = field(repr=False)
    label: NDArray[np.int64] = field(repr=False)

    @classmethod
    def embed(cls, private: PrivateTexts, embed: Embedder) -> Clients:
        """Embed every text once, and forget the texts."""
        return cls(embed(private.texts, announce="Clients embed their texts"), private.client, private.label)

    def vote(self, ballot: Ballot, rule: VoteRule) -> Bounded:
        """Sum the clients' votes: each text votes for its nearest candidates of the same label.

        A client's votes over all labels are one vector with one bound; `privacy.bounding` proves the sensitivity, and
        which candidates a text is near to does not enter the proof.
        """
        client, candidate, weight = self._assign_votes(ballot, rule.nearest)
        return bounded_sum(
            client,
            candidate,
            weight,
            dimension=len(ballot.label),
            norm_squared=rule.norm_squared,
            normalize=rule.normalize,
        )

    def sum_moments(self, query: MomentQuery) -> Bounded:
        """Sum the clients' moments; `privacy.moments` proves the sensitivity."""
        return bounded_moments(query, self.embeddings, self.client)

    def _assign_votes(self, ballot: Ballot, q: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return client, candidate and weight of each vote: one entry for each text and each of its candidates."""
        client, candidate, weight = [], [], []
        for label in np.unique(ballot.label):
            candidates = np.flatnonzero(ballot.label == label)
            texts = np.flatnonzero(self.label == label)
            # Row numbers in place of a copy of the embeddings; None where all texts vote, which is the usual case.
            rows = None if len(texts) == len(self.label) else texts
            nearest = find_nearest(ballot.points[candidates], self.embeddings, q, rows)
            client.append(np.repeat(self.client[texts], nearest.shape[1]))
            candidate.append(candidates[nearest.ravel()])
            weight.append(np.full(nearest.size, 1.0 / nearest.shape[1]))
        return np.concatenate(client), np.concatenate(candidate), np.concatenate(weight)
