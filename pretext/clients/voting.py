"""The clients' side: embed the texts once, then answer. Only a `Bounded` leaves this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pretext.clients.nearest import find_nearest
from pretext.clients.private_data import PrivateTexts
from pretext.profile.query import NORM_SQUARED, ProfileQuery
from pretext.vectors import Embedder
from privacy import Bounded, InvalidParameter, bounded_sum
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
        texts: the m texts, whose features a profile counts; may be missing where none is asked for.
    """

    embeddings: NDArray[np.float32] = field(repr=False)
    client: NDArray[np.int64] = field(repr=False)
    label: NDArray[np.int64] = field(repr=False)
    texts: Sequence[str] = field(default=(), repr=False)

    @classmethod
    def embed(cls, private: PrivateTexts, embed: Embedder) -> Clients:
        """Embed every text once."""
        embeddings = embed(private.texts, announce="Clients embed their texts")
        return cls(embeddings, private.client, private.label, private.texts)

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

    def profile(self, query: ProfileQuery) -> Bounded:
        """Sum the clients' profiles; `pretext.profile.query` says what a client's vector is.

        The vectors of all labels are one vector with one bound; `privacy.bounding` proves the sensitivity, and neither
        the features of a text nor its nearest center enter the proof.
        """
        if len(self.texts) != len(self.client):
            raise InvalidParameter("A profile counts the features of texts, and these clients hold only embeddings.")
        text, feature = query.vocabulary.matrix(self.texts).nonzero()
        cluster = find_nearest(query.centers, self.embeddings, 1)[:, 0]
        first, features = self.label * query.width, len(query.vocabulary.features)
        weights = (query.feature_weight, query.cluster_weight, query.count_weight)
        return bounded_sum(
            np.concatenate([self.client[text], self.client, self.client]),
            np.concatenate([first[text] + feature, first + features + cluster, first + query.width - 1]),
            np.repeat(weights, [len(text), len(self.client), len(self.client)]),
            dimension=query.dimension,
            norm_squared=NORM_SQUARED,
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
