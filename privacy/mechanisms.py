r"""Noise. One mechanism: the discrete Gaussian on a fine integer grid, sampled exactly by OpenDP from the OS's entropy.

There is no seed, and no floating-point Gaussian: its rounding cannot be accounted for, and the discrete one costs the
same.

Claim. Let M add independent discrete Gaussian noise N_Z(0, s^2), s >= 1, to each of the n coordinates of an integer
vector of L2 sensitivity S (all in grid steps). Then M is (epsilon, delta(epsilon) + (1 + e^epsilon) t)-DP for every
epsilon, with delta(.) the exact curve of the continuous Gaussian mechanism at mu = S / s and t = n / (16 s^2).

Proof.
 1. Let R add round(Z), Z ~ N(0, s^2) per coordinate. For integer x, x + round(Z) = round(x + Z): post-processing of the
    continuous Gaussian mechanism. So R has exactly its curve (Balle and Wang 2018; Dong, Roth and Su 2022).
 2. Total variation between N_Z(0, s^2) and round(Z). With g(x) = exp(-x^2 / 2 s^2), I = s sqrt(2 pi) its integral and
    G = sum_k g(k):  2 TV <= |1 - G/I| + (1/I) sum_k |g(k) - integral of g over [k-1/2, k+1/2]|.
    The k-th term of the sum is at most (1/8) times the integral of |g''| over its cell (Taylor, Peano kernel
    (1/2-|u|)^2/2 <= 1/8); the integral of |g''| over the line is the total variation of g', 4 e^(-1/2) / s. Hence the
    sum is at most e^(-1/2) / (2 s), and divided by I at most 0.1210 / s^2. By Poisson summation
    |G/I - 1| = 2 sum_m exp(-2 pi^2 s^2 m^2) < 6e-9 / s^2 for s >= 1. Together TV < 1 / (16 s^2) per coordinate, and
    at most n / (16 s^2) for n independent ones.
 3. If the output laws are within t of R's on either dataset, P(M(D) in A) <= P(R(D) in A) + t
    <= e^eps P(R(D') in A) + delta(eps) + t <= e^eps P(M(D') in A) + delta(eps) + (1 + e^eps) t.
 4. Adaptive composition: replacing the releases one at a time (a hybrid argument) adds up their t; the R's compose to
    one Gaussian of mu^2 = sum of mu_i^2, also when later noise is chosen after earlier releases (Gaussian-DP filters:
    Smith and Thakurta 2022; Koskela, Tobaben and Honkela 2022). A filter's bounds on mu^2 and on the sum of the t are
    both fixed in advance (`accounting.fits`).
With s above 2^29 grid steps, n = 1024 and eleven releases t is below 1e-14: the price of exactness is not visible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from privacy.accounting import Cost
from privacy.bounding import Bounded, grid_for, sensitivity_squared
from privacy.errors import InvalidParameter
from privacy.units import Relation

_LARGEST_SIGMA = 2.0**50
"""Noise of this many steps stays inside 64-bit integers with a probability of failure below 10^-1000000."""


@dataclass(frozen=True)
class DiscreteGaussian:
    """Discrete Gaussian noise of absolute standard deviation `sigma`, in steps of `grid`.

    `draw` and `cost` use the same `sigma`: what is accounted for is what is drawn.
    """

    sigma: float
    grid: float

    def __post_init__(self) -> None:
        if not 1.0 <= self.sigma <= _LARGEST_SIGMA:
            raise InvalidParameter(f"The noise's sigma is {self.sigma} grid steps; the proof needs 1 to 2^50.")
        if not (self.grid > 0 and math.frexp(self.grid)[0] == 0.5):
            raise InvalidParameter(f"The grid's spacing is {self.grid}; it must be a power of two.")

    @classmethod
    def for_sum(
        cls, noise_multiplier: float, norm_squared: Fraction, relation: Relation, *, nonnegative: bool = True
    ) -> DiscreteGaussian:
        """Make noise of `noise_multiplier` sensitivities for a `bounded_sum`, or, signed, for `bounded_rows`."""
        grid, bound = grid_for(norm_squared)
        return cls(noise_multiplier * math.sqrt(sensitivity_squared(bound, nonnegative, relation)), grid)

    @property
    def name(self) -> str:
        """Name of the mechanism in ledgers and statements."""
        return "discrete Gaussian"

    @property
    def standard_deviation(self) -> float:
        """Noise per coordinate in the query's own unit (votes)."""
        return self.sigma * self.grid

    def cost(self, dimension: int, squared_sensitivity: int) -> Cost:
        """Compute what one release of `dimension` coordinates costs (claim above), rounded up."""
        mu_squared = float(Fraction(squared_sensitivity) / Fraction(self.sigma) ** 2)
        slack = dimension / (16.0 * self.sigma**2)
        return Cost(math.nextafter(mu_squared, math.inf), math.nextafter(slack, math.inf))

    def draw(self, bounded: Bounded) -> NDArray[np.int64]:
        """Draw the noisy sum, shape (n,), int64, in grid steps. For `privacy.ledger` alone.

        Raises:
            InvalidParameter: the value lives on another grid than the noise.
        """
        import opendp.prelude as dp

        if bounded.grid != self.grid:
            raise InvalidParameter(f"The value's grid is {bounded.grid}, the noise's grid is {self.grid}.")
        dp.enable_features("contrib")
        domain = dp.vector_domain(dp.atom_domain(T="i64"))
        measurement = dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), self.sigma)
        return np.asarray(measurement(bounded.value.tolist()), dtype=np.int64)
