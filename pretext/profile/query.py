r"""The question of a profile: counts of public features, and of votes for clusters of a public pool, in one vector.

A client c with texts t (at most k, a public number) holds, for each label, the non-negative vector

    u_c = ( f * sum_t x(t),  v * sum_t e(t),  n * #texts )

where x(t) in {0, 1}^d marks the vocabulary's features of a text, e(t) is the unit vector of the cluster whose center
is nearest, and f, v, n are public weights. `privacy.bounding.bounded_sum` scales all labels' vectors together to an L2
norm of at most 1 and proves the sensitivity from that bound alone: vocabulary, centers and weights may be anything, as
long as they are public. They are made of public texts and settings; a release is bound to the digest of all of them.

The weights only divide the bound. They are chosen on public texts so that a client with k typical texts has a norm of
1: `feature_share` of its square is the features', a small part the number of texts, the rest the clusters'. The scale
that a client gets applies to all its coordinates, so the released sums are of one population of weighted texts, and the
counts divided by the number of texts are its means.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pretext.errors import NoSignal
from pretext.profile.vocabulary import Vocabulary

NORM_SQUARED = Fraction(1)
"""The bound on the squared L2 norm of a client's vector."""

_COUNT_SHARE = 0.02  # of the squared norm; 8,000 texts at epsilon 1 are then known to 3 %
_LEAST_SIGNAL = 3.0  # standard deviations by which the number of texts must exceed the noise


def count_noise(sigma: float, texts: int) -> float:
    """Compute the standard deviation of the noise of a released number of texts.

    Args:
        sigma: of the noise of each coordinate.
        texts: most texts of a client.
    """
    return sigma * texts / math.sqrt(_COUNT_SHARE)


def least_texts(sigma: float, texts: int, labels: int = 1) -> float:
    """Compute the number of texts below which nothing can be read; arguments as `count_noise`."""
    return _LEAST_SIGNAL * count_noise(sigma, texts) * math.sqrt(labels)


@dataclass(frozen=True)
class ProfileQuery:
    """What all clients are asked. Public.

    Attributes:
        vocabulary: the features to count.
        centers: shape (k, dimension), unit rows, the clusters' centers.
        labels: number of labels, 1 without.
        feature_weight, cluster_weight, count_weight: f, v and n above.
    """

    vocabulary: Vocabulary
    centers: NDArray[np.float32]
    labels: int
    feature_weight: float
    cluster_weight: float
    count_weight: float

    @classmethod
    def weigh(
        cls, vocabulary: Vocabulary, centers: NDArray[np.float32], labels: int, clip: float, texts: int, share: float
    ) -> ProfileQuery:
        """Divide the bound between features, clusters and the number of texts.

        Args:
            vocabulary, centers, labels: as above.
            clip: public norm of the summed features of a client with `texts` texts.
            texts: most texts of a client.
            share: of the squared norm for the features.
        """
        clusters = (1 - share) * (1 - _COUNT_SHARE)
        features = share * (1 - _COUNT_SHARE)
        # Texts of one client that choose different clusters have norm sqrt(texts); those of one cluster, scaled, less.
        return cls(
            vocabulary,
            centers,
            labels,
            math.sqrt(features) / clip,
            math.sqrt(clusters / texts),
            math.sqrt(_COUNT_SHARE) / texts,
        )

    @property
    def width(self) -> int:
        """Coordinates of one label."""
        return len(self.vocabulary.features) + len(self.centers) + 1

    @property
    def dimension(self) -> int:
        """Coordinates of all labels."""
        return self.labels * self.width

    @property
    def digest(self) -> str:
        """SHA-256 of everything that is asked."""
        digest = hashlib.sha256(self.vocabulary.digest.encode())
        digest.update(np.ascontiguousarray(self.centers, dtype="<f4").tobytes())
        weights = [self.feature_weight, self.cluster_weight, self.count_weight]
        digest.update(repr((self.labels, len(self.centers), *weights)).encode())
        return digest.hexdigest()

    def read(self, noisy: NDArray[np.float64], sigma: float) -> list[ReleasedProfile]:
        """Read a release: for each label the number of texts, and the means of features and clusters over them.

        Args:
            noisy: shape (dimension,), the released sum.
            sigma: standard deviation of its noise.

        Raises:
            NoSignal: the number of texts of all labels together does not stand above its noise.
        """
        rows = noisy.reshape(self.labels, self.width)
        noise = sigma / self.count_weight
        counts = rows[:, -1] / self.count_weight
        if counts.sum() < _LEAST_SIGNAL * noise * math.sqrt(self.labels):
            raise NoSignal(
                "The profile's number of texts does not stand above its noise, so nothing can be read from it and "
                "nothing was written. The release is charged all the same. Next time take a larger epsilon or more "
                "clients; `pretext plan` shows noise against expected counts beforehand."
            )
        return list(self._read_labels(rows, np.maximum(counts, noise), sigma))

    def _read_labels(
        self, rows: NDArray[np.float64], counts: NDArray[np.float64], sigma: float
    ) -> Iterator[ReleasedProfile]:
        features = len(self.vocabulary.features)
        for row, count in zip(rows, counts.tolist(), strict=True):
            yield ReleasedProfile(
                count,
                row[:features] / self.feature_weight / count,
                sigma / self.feature_weight / count,
                row[features:-1] / self.cluster_weight / count,
                sigma / self.cluster_weight / count,
            )


@dataclass(frozen=True)
class ReleasedProfile:
    """What was released of one label, as means over its texts. Post-processing.

    Attributes:
        texts: their number, weighted as the bound weighs clients.
        features: shape (d,), share of the texts that has each feature.
        feature_deviation: standard deviation of the noise of each.
        clusters: shape (k,), share of the texts whose nearest center is each.
        cluster_deviation: standard deviation of the noise of each.
    """

    texts: float
    features: NDArray[np.float64]
    feature_deviation: float
    clusters: NDArray[np.float64]
    cluster_deviation: float
