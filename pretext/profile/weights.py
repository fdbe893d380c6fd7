r"""Weights of texts by maximum entropy: as equal as possible, and in agreement with noisy means.

Given texts with features x_i in {0, 1}^d, released means m with noise of standard deviations s, and base weights q,

    minimize over p:  KL(p, q) + sum_j h((E_p x_j - m_j) / s_j),

where h is 0 inside of [-box, box] and (|r| - box)^2 / (2 e) outside: a mean may be missed by `box` standard deviations
for nothing, and by more where no weights can meet it, as for a feature that no text has. With e > 0 the dual

    minimize over t:  log sum_i q_i exp(t . x_i / s) - t . m / s + box |t|_1 + e/2 |t|^2,    p_i ~ q_i exp(t . x_i / s)

is strongly convex and always has a solution (Dudik, Phillips and Schapire 2007, with the l1 + l2^2 regularizer). It is
found by proximal gradient steps with Nesterov's momentum, a step size that is searched for, and a restart where the
momentum points uphill (FISTA; Beck and Teboulle 2009, O'Donoghue and Candes 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ELASTICITY = 0.1  # e: a mean that cannot be met is missed by 0.1 standard deviations for each unit of its multiplier
_TOLERANCE = 0.01  # standard deviations by which the optimality conditions may be missed
_CHECK_EVERY = 10
_FIRST_CURVATURE = 100.0
_CURVATURE_DECAY = 0.95  # lets the step grow again


@dataclass(frozen=True)
class Weights:
    """The weights that a set of texts gets.

    Attributes:
        p: shape (n,), above 0, of sum 1.
        multipliers: shape (d,), t / s: a text's weight is in proportion to its base weight and exp(multipliers . x).
        violation: largest excess over the box, in standard deviations.
        iterations: steps that were taken.
    """

    p: Floats
    multipliers: Floats
    violation: float
    iterations: int

    @property
    def effective_size(self) -> float:
        """Number of equally weighted texts that say as much (Kish): 1 / sum p^2."""
        return 1 / float((self.p**2).sum())

    @property
    def largest(self) -> float:
        """The largest weight."""
        return float(self.p.max())


def maximum_entropy(
    features: scipy.sparse.csr_array,
    mean: Floats,
    deviation: Floats,
    *,
    box: float,
    base: Floats | None = None,
    iterations: int = 3000,
) -> Weights:
    """Solve the problem above.

    Args:
        features: shape (n, d), the texts' features.
        mean: shape (d,), released means.
        deviation: shape (d,), above 0, standard deviations of their noise.
        box: in standard deviations.
        base: shape (n,), above 0, q; default: equal.
        iterations: most steps.
    """
    dual = _Dual(features, mean, deviation, box, base)
    t = previous = np.zeros(len(mean))
    point, momentum, curvature = t, 1.0, _FIRST_CURVATURE
    for iteration in range(1, iterations + 1):
        value, gradient = dual.evaluate(point)
        t, curvature = dual.step(point, value, gradient, curvature)
        if iteration % _CHECK_EVERY == 0 and dual.optimality(t) < _TOLERANCE:
            break
        if (point - t) @ (t - previous) > 0:
            momentum, point = 1.0, t
        else:
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            point, momentum = t + (momentum - 1) / following * (t - previous), following
        previous = t
        curvature *= _CURVATURE_DECAY
    residuals = dual.residuals(t)
    excess = float(np.abs(residuals).max(initial=0.0)) - box
    return Weights(dual.weights(t), t / deviation, max(excess, 0.0), iteration)


class _Dual:
    """The dual problem in scaled multipliers t."""

    def __init__(
        self, features: scipy.sparse.csr_array, mean: Floats, deviation: Floats, box: float, base: Floats | None
    ) -> None:
        self._scaled = scipy.sparse.csr_array(features.astype(np.float64) @ scipy.sparse.diags_array(1 / deviation))
        self._transposed = scipy.sparse.csr_array(self._scaled.T)
        self._target = mean / deviation
        self._box = box
        self._log_base = np.full(features.shape[0], -math.log(features.shape[0])) if base is None else np.log(base)

    def evaluate(self, t: Floats) -> tuple[float, Floats]:
        """Return the smooth part, without the l1 term, and its gradient."""
        exponents = self._log_base + self._scaled @ t
        top = exponents.max()
        terms = np.exp(exponents - top)
        value = top + math.log(terms.sum()) - self._target @ t + _ELASTICITY / 2 * t @ t
        reached = self._transposed @ (terms / terms.sum())
        return float(value), reached - self._target + _ELASTICITY * t

    def step(self, point: Floats, value: float, gradient: Floats, curvature: float) -> tuple[Floats, float]:
        """Take the longest proximal step whose quadratic bound holds; return it with its curvature."""
        while True:
            t = _shrink(point - gradient / curvature, self._box / curvature)
            way = t - point
            if self.evaluate(t)[0] <= value + gradient @ way + curvature / 2 * way @ way + 1e-12:
                return t, curvature
            curvature *= 2

    def optimality(self, t: Floats) -> float:
        """Return by how much the optimality conditions are missed, in standard deviations."""
        gradient = self.evaluate(t)[1]
        missed = np.where(t != 0, gradient + self._box * np.sign(t), _shrink(gradient, self._box))
        return float(np.abs(missed).max(initial=0.0))

    def residuals(self, t: Floats) -> Floats:
        """Return what is reached less what was released, in standard deviations."""
        residuals: Floats = self._transposed @ self.weights(t) - self._target
        return residuals

    def weights(self, t: Floats) -> Floats:
        """Return p."""
        exponents = self._log_base + self._scaled @ t
        terms = np.exp(exponents - exponents.max())
        return np.asarray(terms / terms.sum(), dtype=np.float64)


def _shrink(values: Floats, by: float) -> Floats:
    """Move values toward zero (the proximal step of the l1 norm)."""
    return np.asarray(np.sign(values) * np.maximum(np.abs(values) - by, 0.0), dtype=np.float64)
