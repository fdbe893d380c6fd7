"""From releases to weights of texts: what the clients' texts are like, and which texts are like that. Post-processing.

A release says of each label which share of the clients' texts has each public feature and lies in each cluster, with
known noise (`pretext.profile.query`). `Target` holds that for one label, over all rounds; `weigh_texts` finds the
weights of given texts, nearest to equal, under which they agree with it within the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from pretext.clients.nearest import find_nearest
from pretext.profile.fit import Fit, measure_fit
from pretext.profile.query import ProfileQuery, ReleasedProfile
from pretext.profile.weights import Weights, maximum_entropy


@dataclass(frozen=True)
class Target:
    """What the releases of all rounds say of one label's texts.

    Attributes:
        queries: of the rounds.
        texts: the label's number of texts, by the first release.
        mean: shape (d,), released shares of all rounds' features and clusters, one after another.
        deviation: shape (d,), standard deviation of the noise of each.
    """

    queries: tuple[ProfileQuery, ...]
    texts: float
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, queries: Sequence[ProfileQuery], profiles: Sequence[ReleasedProfile]) -> Target:
        """Put the rounds' releases for one label together."""
        means = [part for profile in profiles for part in (profile.features, profile.clusters)]
        deviations = [
            np.full(len(part), deviation)
            for profile in profiles
            for part, deviation in (
                (profile.features, profile.feature_deviation),
                (profile.clusters, profile.cluster_deviation),
            )
        ]
        return cls(tuple(queries), profiles[0].texts, np.concatenate(means), np.concatenate(deviations))

    def matrix(self, texts: Sequence[str], embeddings: NDArray[np.float32]) -> scipy.sparse.csr_array:
        """Mark the features and the cluster of each text, shape (len(texts), d).

        Args:
            texts: any.
            embeddings: shape (len(texts), dimension), theirs.
        """
        parts = [
            part
            for query in self.queries
            for part in (query.vocabulary.matrix(texts), _mark_clusters(query.centers, embeddings))
        ]
        return scipy.sparse.csr_array(scipy.sparse.hstack(parts, format="csr"))

    def name(self, coordinate: int) -> str:
        """Name a feature, or a cluster by its number."""
        for query in self.queries:
            features = query.vocabulary.features
            if coordinate < len(features):
                return features[coordinate]
            coordinate -= len(features)
            if coordinate < len(query.centers):
                return f"cluster {coordinate}"
            coordinate -= len(query.centers)
        raise IndexError(coordinate)


def weigh_texts(target: Target, marks: scipy.sparse.csr_array, box: float) -> Weights:
    """Weigh texts so that they agree with a target within `box` standard deviations of its noise.

    Args:
        target: of one label.
        marks: shape (n, d), `Target.matrix` of the texts.
        box: see `settings.Profile`.
    """
    return maximum_entropy(marks, target.mean, target.deviation, box=box)


def fit_texts(target: Target, marks: scipy.sparse.csr_array, weights: Weights) -> Fit:
    """Measure how far weighed texts are from the target that they were weighed by, beyond its noise."""
    return measure_fit(marks, target.mean, target.deviation, weights.p, weights.active)


def _mark_clusters(centers: NDArray[np.float32], embeddings: NDArray[np.float32]) -> scipy.sparse.csr_array:
    cluster = find_nearest(centers, embeddings, 1)[:, 0]
    ones = np.ones(len(cluster), np.float32)
    return scipy.sparse.csr_array((ones, cluster, np.arange(len(cluster) + 1)), shape=(len(cluster), len(centers)))
