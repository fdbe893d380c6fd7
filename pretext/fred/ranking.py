"""Public sets ranked by their distance from released moments, with what the noise leaves open.

Everything here is post-processing of a release and public data; it costs no privacy.

Noise biases a distance: the square of a noisy mean is too large, the fidelity of a noisy covariance too small. The law
of the noise is public, so its effect can be simulated: the estimated moments, taken for true, are given noise again and
again, the candidates' groups are drawn with replacement, and the whole estimate is made anew each time. How far those
answers lie from the one they started from is how far ours lies from the truth (basic bootstrap; Davison and Hinkley
1997, chapter 5).

What is measured is the distance from the private texts there are, not from a population that they are a sample of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretext.fred.estimation import MomentNoise, Moments, estimate_covariance
from pretext.fred.frechet import covariance_root, squared_distances
from pretext.fred.public_sets import ProjectedSet, mix_sets
from privacy.moments import Floats

DRAWS = 400
_SEED = 20230218


@dataclass(frozen=True)
class Estimate:
    """Distances of k candidates and what they could have been.

    Attributes:
        distance: shape (k,), squared Frechet distances, bias removed; possibly below 0 by noise.
        errors: shape (draws, k), simulated errors of `distance`, of mean 0.
        bias: shape (k,), what was removed.
    """

    distance: Floats
    errors: Floats
    bias: Floats

    def interval(self, confidence: float) -> Floats:
        """Shape (k, 2): where each true distance lies with this confidence; never below 0."""
        tail = (1 - confidence) / 2
        low, high = np.quantile(self.errors, [tail, 1 - tail], axis=0)
        return np.asarray(np.maximum(np.stack([self.distance - high, self.distance - low], axis=1), 0.0))

    @property
    def best(self) -> Floats:
        """Shape (k,): in what share of the simulations each candidate is the nearest."""
        nearest = np.argmin(self.distance - self.errors, axis=1)
        return np.asarray(np.bincount(nearest, minlength=self.distance.size) / len(nearest))


def estimate_distances(
    released: Moments,
    noise: MomentNoise,
    sets: Sequence[ProjectedSet],
    draws: int = DRAWS,
    *,
    prior: Floats | None = None,
) -> Estimate:
    """Distances of the candidates from released moments.

    Args:
        released: mean (r,) and second moments (r, r), with noise.
        noise: its law.
        sets: in the same r dimensions.
        draws: simulations.
        prior: public covariance toward which a noisy one is drawn; default: the pool's.
    """
    rng = np.random.default_rng(_SEED)
    prior = pool_sets(sets).covariance if prior is None else prior
    covariance = estimate_covariance(released, noise, prior)
    laws, half = [candidate.moments for candidate in sets], covariance_root(covariance)
    raw = squared_distances(released, half, laws)
    first = released.mean[: len(covariance)]
    taken_for_true = Moments(released.mean, covariance + np.outer(first, first))
    truth = squared_distances(taken_for_true, half, laws)
    again = noise.simulate(taken_for_true, draws, rng)
    resampled = [candidate.resampled_moments(draws, rng) for candidate in sets]
    errors = squared_distances(again, covariance_root(estimate_covariance(again, noise, prior)), resampled) - truth
    bias = errors.mean(axis=0)
    return Estimate(raw - bias, errors - bias, bias)


def pool_sets(sets: Sequence[ProjectedSet]) -> Moments:
    """The moments of the candidates together, each counting the same."""
    return mix_sets(sets).moments
