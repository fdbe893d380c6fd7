"""Estimate the clients' moments from a noisy release, and know the law of what the noise did to them.

Everything here is post-processing of a release and public data; it costs no privacy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from privacy.errors import InvalidParameter
from privacy.moments import Floats, MomentQuery, off_diagonal_weights


@dataclass(frozen=True)
class MomentNoise:
    """The law of the noise on released moments: independent Gaussians of these standard deviations.

    Attributes:
        mean: on each coordinate of the mean.
        second: on the diagonal of the second-moment matrix; 1 / sqrt 2 of it beside the diagonal.
        scale: relative, on the number of clients by which both are divided; 0 if that is public.
    """

    mean: float
    second: float
    scale: float = 0.0

    @classmethod
    def of(cls, query: MomentQuery, deviation: float, clients: float) -> MomentNoise:
        """Derive the law from the standard deviation of the noise per coordinate of the sum over so many clients."""
        relative = deviation / clients
        scale = relative / query.count_weight if query.count_weight else 0.0
        second = query.second_radius**2 * relative / query.second_weight if query.rank else 0.0
        return cls(query.radius * relative / query.mean_weight, second, scale)

    def edge(self, rank: int) -> float:
        """Predict the largest eigenvalue, in absolute value, of the noise on second moments of this rank (Wigner)."""
        return self.second * math.sqrt(2 * rank)

    def simulate(self, moments: Moments, draws: int, rng: np.random.Generator) -> Moments:
        """Draw what `draws` releases of the same moments could have been. For simulation, never for a release."""
        rank, directions = moments.second.shape[-1], moments.mean.shape[-1]
        square = rng.standard_normal((draws, rank, rank)) * (self.second / 2)
        # Twice the half on the diagonal, sqrt 2 times the half beside it.
        noise = square + np.swapaxes(square, 1, 2)
        mean = moments.mean + self.mean * rng.standard_normal((draws, directions))
        factor = 1.0 / np.maximum(1.0 + self.scale * rng.standard_normal(draws), 0.1)
        return Moments(mean * factor[:, None], (moments.second + noise) * factor[:, None, None])


@dataclass(frozen=True)
class Moments:
    """First and second moments of a law, or a stack of them.

    Attributes:
        mean: shape (..., n), E x.
        second: shape (..., r, r), E z z^T for the first r <= n coordinates z of x.
    """

    mean: Floats
    second: Floats

    @property
    def covariance(self) -> Floats:
        """E z z^T - E z E z^T, shape (..., r, r); of noisy moments possibly not positive semi-definite."""
        first = self.mean[..., : self.second.shape[-1]]
        return np.asarray(self.second - first[..., :, None] * first[..., None, :])


def estimate_moments(
    query: MomentQuery, noisy: Floats, deviation: float, clients: int | None = None
) -> tuple[Moments, MomentNoise]:
    """Estimate the moments in a release, without bias, and the law of their noise.

    Args:
        query: what the clients were asked for.
        noisy: shape (dimension,), the released sum.
        deviation: standard deviation of its noise.
        clients: the public number of clients; needed where the query does not count them.

    Raises:
        InvalidParameter: the release is not an answer to this query, or the number of clients is missing.
    """
    if noisy.shape != (query.dimension,):
        raise InvalidParameter(f"The release has {noisy.size} coordinates, the query {query.dimension}.")
    if query.count_weight:
        # Where noise outweighs the clients, any count below the noise is indistinguishable from none.
        count, noisy = max(noisy[0], deviation) / query.count_weight, noisy[1:]
    elif clients is None:
        raise InvalidParameter("The query does not count the clients; state their public number.")
    else:
        count = float(clients)
    mean = noisy[: query.directions] * (query.radius / (query.mean_weight * count))
    second, upper = np.zeros((query.rank, query.rank)), np.triu_indices(query.rank)
    if query.rank:
        unit = query.second_radius**2 / (query.second_weight * count)
        second[upper] = second.T[upper] = noisy[query.directions :] * unit / off_diagonal_weights(query.rank)
    return Moments(mean, second), MomentNoise.of(query, deviation, count)


def estimate_covariance(noisy: Moments, noise: MomentNoise, prior: Floats) -> Floats:
    """Estimate a positive semi-definite covariance from noisy moments, or from a stack of them.

    The square of the noise in the mean is added back; the result is shrunk toward a public prior as far as the known
    energy of the noise accounts for the distance between the two (positive-part James and Stein 1961); its negative
    eigenvalues are set to zero.

    Args:
        noisy: mean of shape (..., r).
        noise: the law of their noise.
        prior: shape (r, r), a covariance out of public data.
    """
    rank = prior.shape[-1]
    raw = noisy.covariance + noise.mean**2 * np.eye(rank)
    energy = noise.second**2 * rank * (rank + 1) / 2
    apart = np.square(raw - prior).sum(axis=(-2, -1))
    share = np.minimum(1.0, energy / np.maximum(apart, 1e-300))[..., None, None]
    return nearest_covariance(raw + share * (prior - raw))


def nearest_covariance(symmetric: Floats) -> Floats:
    """Project a symmetric matrix, or a stack of them, to the nearest positive semi-definite one in Frobenius norm."""
    values, vectors = np.linalg.eigh(symmetric)
    return np.asarray((vectors * np.maximum(values, 0.0)[..., None, :]) @ np.swapaxes(vectors, -1, -2))
