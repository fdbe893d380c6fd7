"""What runs on the clients' side: embed their texts once, then vote. Only a `Bounded` leaves this module."""

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
    """What clients are asked: the public positions of the candidates.

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
    """Clients that sit in this process. The repr tells nothing.

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
        """Embed every text once; the texts themselves are not kept."""
        return cls(embed(private.texts, announce="Clients embed their texts"), private.client, private.label)

    def vote(self, ballot: Ballot, rule: VoteRule) -> Bounded:
        """Sum of the clients' votes: each text votes for its nearest candidates of the same label.

        A client's votes over all labels are one vector with one bound (proof of the sensitivity: `privacy.bounding`);
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
        """Sum of the clients' moments (proof of the sensitivity: `privacy.moments`)."""
        return bounded_moments(query, self.embeddings, self.client)

    def _assign_votes(self, ballot: Ballot, q: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Who votes, for which candidate, with what weight: one entry for each text and each of its candidates."""
        client, candidate, weight = [], [], []
        for label in np.unique(ballot.label):
            candidates = np.flatnonzero(ballot.label == label)
            texts = np.flatnonzero(self.label == label)
            # Rows, not a copy of the embeddings; none where everybody is asked, which is the usual case.
            rows = None if len(texts) == len(self.label) else texts
            found = find_nearest(ballot.points[candidates], self.embeddings, q, rows)
            client.append(np.repeat(self.client[texts], found.shape[1]))
            candidate.append(candidates[found.ravel()])
            weight.append(np.full(found.size, 1.0 / found.shape[1]))
        return np.concatenate(client), np.concatenate(candidate), np.concatenate(weight)
