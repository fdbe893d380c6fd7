"""Rank public sets by their distance from released moments, and say what the noise leaves open.

Everything here is post-processing of a release and public data; it costs no privacy.

Noise biases a distance: the square of a noisy mean is too large, the fidelity of a noisy covariance too small. The law
of the noise is public, so its effect can be simulated: the estimated moments, taken for true, get noise again and
again, the sets' groups are drawn with replacement, and the whole estimate is repeated each time. How far the repeated
estimates lie from the one they start from is how far ours lies from the truth (basic bootstrap; Davison and Hinkley
1997, chapter 5).

The distance is that from the private texts there are, not from a population that they are a sample of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretext.fred.estimation import MomentNoise, Moments, estimate_covariance
from pretext.fred.frechet import covariance_root, squared_distances
from pretext.fred.public_sets import ProjectedSet, mix_sets
from privacy.moments import Floats

_DRAWS = 400
_SEED = 20230218


@dataclass(frozen=True)
class Estimate:
    """Distances of k public sets, and what they could have been.

    Attributes:
        distance: shape (k,), squared Frechet distances, bias removed; possibly below 0 by noise.
        errors: shape (draws, k), simulated errors of `distance`, of mean 0.
        bias: shape (k,), what was removed.
    """

    distance: Floats
    errors: Floats
    bias: Floats

    def interval(self, confidence: float) -> Floats:
        """Bound each true distance with this confidence, shape (k, 2); never below 0."""
        tail = (1 - confidence) / 2
        low, high = np.quantile(self.errors, [tail, 1 - tail], axis=0)
        return np.asarray(np.maximum(np.stack([self.distance - high, self.distance - low], axis=1), 0.0))

    @property
    def best(self) -> Floats:
        """Share of the simulations in which each set is the nearest, shape (k,)."""
        nearest = np.argmin(self.distance - self.errors, axis=1)
        return np.asarray(np.bincount(nearest, minlength=self.distance.size) / len(nearest))


def estimate_distances(
    released: Moments,
    noise: MomentNoise,
    sets: Sequence[ProjectedSet],
    draws: int = _DRAWS,
    *,
    prior: Floats | None = None,
) -> Estimate:
    """Estimate the distances of the sets from released moments.

    Args:
        released: mean (r,) and second moments (r, r), with noise.
        noise: its law.
        sets: in the same r dimensions.
        draws: simulations.
        prior: public covariance toward which the noisy one is drawn; default: that of the pool.
    """
    rng = np.random.default_rng(_SEED)
    prior = pool_sets(sets).covariance if prior is None else prior
    covariance = estimate_covariance(released, noise, prior)
    laws, root = [projected.moments for projected in sets], covariance_root(covariance)
    raw = squared_distances(released, root, laws)
    first = released.mean[: len(covariance)]
    taken_for_true = Moments(released.mean, covariance + np.outer(first, first))
    truth = squared_distances(taken_for_true, root, laws)
    noisy = noise.simulate(taken_for_true, draws, rng)
    resampled = [projected.resample_moments(draws, rng) for projected in sets]
    errors = squared_distances(noisy, covariance_root(estimate_covariance(noisy, noise, prior)), resampled) - truth
    bias = errors.mean(axis=0)
    return Estimate(raw - bias, errors - bias, bias)


def pool_sets(sets: Sequence[ProjectedSet]) -> Moments:
    """Return the moments of all sets together, each counting the same."""
    return mix_sets(sets).moments
