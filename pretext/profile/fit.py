r"""How far texts are from a released profile, beyond its noise. It costs nothing, so it decides what is used.

With means a of the texts' features, released means m, true means mu and noise of standard deviations s, the residuals
are r = (a - m) / s. Texts exactly like the clients' have residuals of variance 1, so

    distance = mean of r^2 - 1 + 2 f / d

is an unbiased estimate of the mean of ((a - mu) / s)^2 over the d features (Stein 1981). f is 0 for texts that know
nothing of this noise. Weights that were fitted to the same release follow its noise; f is then the number of means that
shape them, as for the lasso (Zou, Hastie and Tibshirani 2007). The variance of mean r^2 is (2 d + 4 sum ((a - mu) /
s)^2) / d^2. Two sets of texts share the noise, so their difference is known better: to 2 |a - b| / (s d).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

_CLEAR = 2.0
"""Standard deviations by which one distance must be below another to count, and a share above 0."""


@dataclass(frozen=True)
class Fit:
    """The fit of texts to a released profile.

    Attributes:
        residuals: shape (d,), reached less released means, in standard deviations of the noise.
        fitted: number of means that were fitted to the same release; 0 if the texts know nothing of its noise.
    """

    residuals: NDArray[np.float64]
    fitted: int = 0

    @property
    def distance(self) -> float:
        """Mean squared distance from the true means, in deviations; about 0 for the clients' own texts."""
        return float((self.residuals**2).mean()) - 1 + 2 * self.fitted / len(self.residuals)

    @property
    def standard_error(self) -> float:
        """Standard deviation that the noise gives the distance."""
        return math.sqrt((2 + 4 * max(self.distance, 0.0)) / len(self.residuals))

    def improves_on(self, other: Fit) -> bool:
        """Whether this distance is below the other's by more than the noise explains; both on the same release."""
        difference = self.residuals - other.residuals
        deviation = 2 * math.sqrt(float((difference**2).sum())) / len(difference)
        return self.distance < other.distance - _CLEAR * deviation

    def largest(self, count: int) -> list[int]:
        """Return the coordinates of the largest residuals, largest first."""
        order: list[int] = np.argsort(-np.abs(self.residuals), kind="stable")[:count].tolist()
        return order


def measure_fit(
    features: scipy.sparse.csr_array,
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
    fitted: int = 0,
) -> Fit:
    """Measure the fit of texts.

    Args:
        features: shape (n, d), the texts' features.
        mean: shape (d,), released means.
        deviation: shape (d,), standard deviations of their noise.
        weights: shape (n,), of sum 1; default: equal.
        fitted: see `Fit`; for weights of `maximum_entropy` on this release, `Weights.active`.
    """
    p = np.full(features.shape[0], 1 / features.shape[0]) if weights is None else weights
    return Fit((features.T @ p - mean) / deviation, fitted)


def covered_mass(reached: NDArray[np.float64], mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> float:
    """Compute the share of the released mass above its noise that texts reach, from 0 to 1; 1 if none is above.

    Args:
        reached: shape (k,), means of the texts, such as their shares of the clusters.
        mean: shape (k,), released means.
        deviation: shape (k,), standard deviations of their noise.
    """
    clear = mean > _CLEAR * deviation
    if not clear.any():
        return 1.0
    return float(np.minimum(reached, mean)[clear].sum() / mean[clear].sum())
