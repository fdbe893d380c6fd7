r"""Weights of texts by maximum entropy: as equal as possible, and in agreement with noisy means.

Given texts with features x_i in {0, 1}^d, released means m with noise of standard deviations s, and base weights q,

    minimize over p:  KL(p, q) + sum_j h((E_p x_j - m_j) / s_j),    0 <= p_i <= cap,    sum_i p_i = 1,

where h is 0 inside of [-box, box] and (|r| - box)^2 / (2 e) outside: a mean may be missed by `box` standard deviations
for nothing, and by more where no weights can meet it. A released mean outside of what the texts have, such as a share
below 0, is first moved to the nearest value that one text has. With e > 0 the dual

    minimize over t:  F(log q_i + t . x_i / s) - t . m / s + box |t|_1 + e/2 |t|^2

is strongly convex and always has a solution (Dudik, Phillips and Schapire 2007, with the l1 + l2^2 regularizer). F is
log sum exp, whose gradient is p_i ~ q_i exp(t . x_i / s); under a cap it is the largest value of p . scores less
sum p log p, and p is that, scaled up until the weights below the cap fill what the capped ones leave. The l1 term is
linear in the parts of t = u - v with u, v >= 0, so that L-BFGS-B solves the problem (Byrd, Lu, Nocedal and Zhu 1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.optimize import minimize

from pretext.errors import UsageError

Floats = NDArray[np.float64]

_ELASTICITY = 0.1  # e: a mean that cannot be met is missed by 0.1 standard deviations for each unit of its multiplier
_TOLERANCE = 0.01  # standard deviations by which the optimality conditions may be missed
_ROUNDING = 1e-9
_MEMORY = 20  # pairs of steps from which L-BFGS knows the curvature


@dataclass(frozen=True)
class Weights:
    """The weights that a set of texts gets.

    Attributes:
        p: shape (n,), of sum 1.
        multipliers: shape (d,), t / s: below the cap, a text's weight is in proportion to its base weight and
            exp(multipliers . x).
        violation: largest excess over the box, in standard deviations, of a mean that some text's features allow.
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

    @property
    def active(self) -> int:
        """Number of means that shape the weights; the others are met without a multiplier."""
        return int(np.count_nonzero(self.multipliers))


def maximum_entropy(
    features: scipy.sparse.csr_array,
    mean: Floats,
    deviation: Floats,
    *,
    box: float,
    base: Floats | None = None,
    cap: float = 1.0,
    iterations: int = 2000,
) -> Weights:
    """Solve the problem above.

    Args:
        features: shape (n, d), the texts' features.
        mean: shape (d,), released means.
        deviation: shape (d,), above 0, standard deviations of their noise.
        box: in standard deviations, not below 0.
        base: shape (n,), above 0, q; default: equal.
        cap: largest weight of a text, so that few texts cannot stand for all.
        iterations: most steps.

    Raises:
        UsageError: there are no texts, or so few that weights up to `cap` do not sum to 1.
    """
    if features.shape[0] * cap < 1:
        raise UsageError(
            f"{features.shape[0]} texts of weight {cap:g} at most cannot be weighed; give more texts or a larger cap."
        )
    dual = _Dual(features, mean, deviation, base, cap)
    d = features.shape[1]

    def split(parts: Floats) -> tuple[float, Floats]:
        value, gradient = dual.evaluate(parts[:d] - parts[d:])
        return value + box * float(parts.sum()), np.concatenate([gradient + box, box - gradient])

    options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": _MEMORY, "gtol": _TOLERANCE, "ftol": 0.0}
    bounds = [(0, None)] * (2 * d)
    solution = minimize(split, np.zeros(2 * d), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    t = solution.x[:d] - solution.x[d:]
    p, _ = dual.weigh(t)
    excess = float(np.abs(dual.residuals(p)).max(initial=0.0)) - box
    return Weights(p, t / deviation, max(excess, 0.0), int(solution.nit))


class _Dual:
    """The dual problem in scaled multipliers t, without its l1 term."""

    def __init__(
        self, features: scipy.sparse.csr_array, mean: Floats, deviation: Floats, base: Floats | None, cap: float
    ) -> None:
        self._scaled = scipy.sparse.csr_array(features.astype(np.float64) @ scipy.sparse.diags_array(1 / deviation))
        self._transposed = scipy.sparse.csr_array(self._scaled.T)
        least, most = (extreme.toarray().ravel() for extreme in (self._scaled.min(axis=0), self._scaled.max(axis=0)))
        self._target = np.clip(mean / deviation, least, most)
        self._log_base = np.full(features.shape[0], -math.log(features.shape[0])) if base is None else np.log(base)
        self._cap = cap

    def evaluate(self, t: Floats) -> tuple[float, Floats]:
        """Return the value and the gradient."""
        p, value = self.weigh(t)
        return value - float(self._target @ t) + _ELASTICITY / 2 * float(t @ t), self.residuals(p) + _ELASTICITY * t

    def weigh(self, t: Floats) -> tuple[Floats, float]:
        """Return p and F of the scores log q_i + t . x_i / s."""
        scores = self._log_base + self._scaled @ t
        level, capped = _fill(scores, self._cap)
        p = np.exp(np.minimum(scores - level, math.log(self._cap)))
        p[capped] = self._cap
        mass = 1 - self._cap * len(capped)  # the scores less log p are `level` for all of it
        value = (mass * level if mass > 0 else 0.0) + self._cap * float((scores[capped] - math.log(self._cap)).sum())
        return p, value

    def residuals(self, p: Floats) -> Floats:
        """Return what is reached less what was released, in standard deviations."""
        residuals: Floats = self._transposed @ p - self._target
        return residuals


def _fill(scores: Floats, cap: float) -> tuple[float, NDArray[np.int64]]:
    """Find the level with sum min(exp(scores - level), cap) = 1, and the rows at the cap (water-filling)."""
    most = min(int(1 / cap), len(scores))
    order = np.argpartition(-scores, most - 1)
    first = order[:most][np.argsort(-scores[order[:most]])]
    rest = np.logaddexp.reduce(scores[order[most:]], initial=-np.inf)
    # tails[k]: what the texts would sum to without the k largest scores.
    tails = np.logaddexp.accumulate(np.concatenate([[rest], scores[first][::-1]]))[::-1]
    left = 1 - cap * np.arange(most + 1)
    levels = np.where(left > _ROUNDING, tails - np.log(np.maximum(left, _ROUNDING)), np.inf)
    fits = scores[first] - levels[:-1] <= math.log(cap) + _ROUNDING
    count = int(fits.argmax()) if fits.any() else most
    return float(levels[count]), first[:count]
