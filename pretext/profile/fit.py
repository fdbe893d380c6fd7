r"""How far texts are from a released profile, beyond its noise. It costs nothing, so it decides what is used.

With means a of the texts' features, released means m and noise of standard deviations s, the residuals are
r = (a - m) / s. Texts exactly like the clients' have residuals of variance 1, so

    distance = mean of r^2 - 1

is 0 on average for them, and else the mean of ((a - true mean) / s)^2. Two sets of texts are compared on the same
release: the noise of the difference of their distances is known, 2 |a - b| / s in each feature, and no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

_CLEAR = 2.0
"""Standard deviations by which one distance must be below another to count."""


@dataclass(frozen=True)
class Fit:
    """The fit of texts to a released profile.

    Attributes:
        residuals: shape (d,), reached less released means, in standard deviations of the noise.
    """

    residuals: NDArray[np.float64]

    @property
    def distance(self) -> float:
        """Mean squared residual less that of the noise; about 0 for the clients' own texts."""
        return float((self.residuals**2).mean()) - 1

    def improves_on(self, other: Fit) -> bool:
        """Whether this distance is below the other's by more than the noise explains."""
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
) -> Fit:
    """Measure the fit of texts.

    Args:
        features: shape (n, d), the texts' features.
        mean: shape (d,), released means.
        deviation: shape (d,), standard deviations of their noise.
        weights: shape (n,), of sum 1; default: equal.
    """
    p = np.full(features.shape[0], 1 / features.shape[0]) if weights is None else weights
    return Fit((features.T @ p - mean) / deviation)
