r"""Mean and second moments of what clients hold, in one release of signed vectors (for FreD).

Every text is a row e of d numbers, -1 to 1. The public query centers and projects it, x = B^T (e - m) with B of shape
(d, n), and clips it twice: x to |x| <= R, and z, the first r <= n coordinates of x, to |z| <= Q. The text's vector is

    v = (w, a x / R, b T(z / Q)),    T(y) = (y_i^2 for all i, sqrt 2 y_i y_j for all i < j),    w^2 + a^2 + b^2 = 1.

(A mean is cheap: noise in it does not grow with the number of directions. A covariance is not, so it is asked for in
the first r directions only.) A client's vector is the mean of v over its texts: every client counts the same, however
many texts it has, and the release measures the law of a text drawn from a random client, the same kind of law that a
public set of texts has.

Claim. A client's vector has an L2 norm of at most 1.
Proof. |T(y)|^2 = sum_i y_i^4 + 2 sum_(i<j) y_i^2 y_j^2 = |y|^4, so |v|^2 = w^2 + a^2 |x/R|^2 + b^2 |z/Q|^4 <= 1. A mean
of vectors in the unit ball lies in it, because the ball is convex.

A client's vector is a function of its own texts to the last bit, as it must be lest one client's presence change
others' vectors (Casacuberta et al. 2022): the projection, a product of matrices, is taken of multiples of 2^-19, so its
terms and partial sums are multiples of 2^-38, which float64 holds exactly below 2^15, in whatever order they are added.
They stay below: entries of e, m and B are at most 1 (those of e are clipped), so a sum of d terms is at most 2 d, and d
is at most 2^13. All else is done row by row.

The claim need not be trusted: `bounding.bounded_rows` enforces norm 1 for every client, in integers after rounding
toward zero. Entries are signed, so one client's change of the sum is at most 1 for add/remove and 2 for replace-one
(not sqrt 2); `Bounded` carries that. B, m, R, Q, r and the weights must come from public data alone.

Where the number of clients is public, w = 0 and that coordinate is left out.

What comes back. Divided by weights and the number of clients N, the release is the mean plus noise of standard
deviation R s / (a N) per coordinate, and the second-moment matrix plus a symmetric noise matrix, Q^2 s / (b N) on the
diagonal and 1 / sqrt 2 of that beside it (thanks to the sqrt 2 in T): its law does not change under rotations, and its
eigenvalues lie within about sqrt(2 r) Q^2 s / (b N) of 0 (Wigner 1958). All of this is public, so estimates can be
freed of the bias that noise gives them, and their error can be simulated.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from privacy.accounting import Cost
from privacy.bounding import Bounded, bounded_rows, grid_for, sensitivity_squared
from privacy.errors import InvalidParameter
from privacy.mechanisms import DiscreteGaussian
from privacy.units import Relation

Floats = NDArray[np.float64]

_NORM_SQUARED = Fraction(1)
_TEXTS_AT_ONCE = 4096
_LARGEST_WIDTH = 2**13
_HALF_STEP = 2.0**-20  # an eigenvector's entry may exceed 1 by a rounding error, which the grid takes off again


@dataclass(frozen=True)
class MomentQuery:
    """What the clients are asked for. All public.

    Attributes:
        center: m, shape (d,), entries of -1 to 1.
        basis: B, shape (d, n), n <= d, entries of -1 to 1; orthonormal columns keep distances.
        rank: r, 0 to n: in how many leading directions second moments are asked for.
        radius: R > 0, in the units of the rows.
        second_radius: Q > 0.
        mean_weight: a > 0.
        count_weight: w >= 0; 0 when the number of clients is public.
    """

    center: Floats
    basis: Floats
    rank: int
    radius: float
    second_radius: float
    mean_weight: float
    count_weight: float

    def __post_init__(self) -> None:
        if self.basis.ndim != 2 or self.center.shape != self.basis.shape[:1] or not self.basis.shape[1]:
            raise InvalidParameter("The query's basis must have the shape (d, n), n >= 1, and its center (d,).")
        if not (np.isfinite(self.basis).all() and np.isfinite(self.center).all()):
            raise InvalidParameter("The query's basis and center must be finite numbers.")
        if max(np.abs(part).max(initial=0.0) for part in (self.basis, self.center)) > 1 + _HALF_STEP:
            raise InvalidParameter("No entry of the query's basis and center may exceed 1 in absolute value.")
        if len(self.center) > _LARGEST_WIDTH:
            raise InvalidParameter(f"The query's center has {len(self.center)} numbers; 2^13 at most keep sums exact.")
        if not 0 <= self.rank <= self.directions:
            raise InvalidParameter(f"The query's rank is {self.rank}; it must be 0 to {self.directions}.")
        if not (0 < self.radius < math.inf and 0 < self.second_radius < math.inf):
            raise InvalidParameter("The query's radii must be finite numbers above 0.")
        if not (self.mean_weight > 0 and self.count_weight >= 0 and self._second_squared >= 0):
            raise InvalidParameter("The query's weights must not be negative, nor their squares add up to more than 1.")
        if self.rank and not self.second_weight:
            raise InvalidParameter("The query's weights leave nothing for second moments; ask for rank 0.")

    @property
    def directions(self) -> int:
        """n, the number of coordinates of the mean."""
        return int(self.basis.shape[1])

    @property
    def second_weight(self) -> float:
        """b, what the other weights leave of 1."""
        return math.sqrt(self._second_squared)

    @property
    def dimension(self) -> int:
        """Coordinates of the release."""
        return (self.count_weight > 0) + self.directions + self.rank * (self.rank + 1) // 2

    @property
    def digest(self) -> str:
        """SHA-256 of everything in the query: what a release is bound to."""
        scalars = [*self.basis.shape, self.rank, self.radius, self.second_radius, self.mean_weight, self.count_weight]
        parts = [np.ascontiguousarray(part, "<f8").tobytes() for part in (np.array(scalars), self.center, self.basis)]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def vectors(self, rows: NDArray[np.floating]) -> Floats:
        """Compute v of each row: (m, d) to (m, dimension). As private as the rows are."""
        clipped = _round_to_grid(np.clip(rows, -1, 1))
        projected = (clipped - _round_to_grid(self.center)) @ _round_to_grid(self.basis)
        first = _clip_rows(projected[:, : self.rank] / self.second_radius)
        i, j = np.triu_indices(self.rank)
        second = first[:, i] * first[:, j] * (self.second_weight * off_diagonal_weights(self.rank))
        count = np.full((len(rows), int(self.count_weight > 0)), self.count_weight)
        return np.hstack([count, self.mean_weight * _clip_rows(projected / self.radius), second])

    @property
    def _second_squared(self) -> float:
        return 1.0 - self.mean_weight**2 - self.count_weight**2


def _round_to_grid(values: NDArray[np.floating]) -> Floats:
    """Round to multiples of 2^-19."""
    return np.rint(values.astype(np.float64) * 2.0**19) / 2.0**19


def _clip_rows(rows: Floats) -> Floats:
    """Scale rows down to a length of at most 1."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0))


def off_diagonal_weights(rank: int) -> Floats:
    """Return the weights in T: sqrt 2 off the diagonal, 1 on it, in the order of the upper triangle."""
    i, j = np.triu_indices(rank)
    return np.where(i == j, 1.0, math.sqrt(2))


def moments_mechanism(noise_multiplier: float, relation: Relation) -> DiscreteGaussian:
    """Make the noise for a release of moments."""
    return DiscreteGaussian.for_sum(noise_multiplier, _NORM_SQUARED, relation, nonnegative=False)


def moments_cost(dimension: int, noise: DiscreteGaussian, relation: Relation) -> Cost:
    """Compute what a release of `dimension` coordinates with this noise costs under a relation."""
    return noise.cost(dimension, sensitivity_squared(grid_for(_NORM_SQUARED)[1], False, relation))


def bounded_moments(query: MomentQuery, rows: NDArray[np.floating], client: NDArray[np.int64]) -> Bounded:
    """Sum the clients' vectors (see above), each bounded.

    Args:
        query: public.
        rows: shape (m, d), one a text, finite; entries are clipped to -1 to 1.
        client: shape (m,), any integers that tell clients apart.

    Raises:
        InvalidParameter: the rows have another width than the query's basis, or are not finite.
    """
    if rows.ndim != 2 or rows.shape[1] != query.center.shape[0] or client.shape != rows.shape[:1]:
        raise InvalidParameter(f"The rows must have {query.center.shape[0]} columns, and a client each.")
    if not np.isfinite(rows).all():
        raise InvalidParameter("A row is not finite numbers; refusing to release.")
    return bounded_rows(
        _iterate_client_vectors(query, rows, client), dimension=query.dimension, norm_squared=_NORM_SQUARED
    )


def _iterate_client_vectors(
    query: MomentQuery, rows: NDArray[np.floating], client: NDArray[np.int64]
) -> Iterator[Floats]:
    """Yield the clients' vectors in blocks of whole clients."""
    order = np.argsort(client, kind="stable")
    _, first, counts = np.unique(client[order], return_index=True, return_counts=True)
    for block in np.split(np.arange(first.size), np.flatnonzero(np.diff(first // _TEXTS_AT_ONCE)) + 1):
        if block.size:
            texts = order[first[block[0]] : first[block[-1]] + counts[block[-1]]]
            sums = np.add.reduceat(query.vectors(rows[texts]), first[block] - first[block[0]], axis=0)
            yield sums / counts[block, None]
