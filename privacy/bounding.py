r"""Contribution bounding: the only makers of `Bounded`, and `Ledger.release` accepts nothing else.

Everything lives on an integer grid. Client c holds a vector v_c of integers (votes divided by the grid's spacing,
rounded toward zero), scaled down where needed so that sum_i v_c[i]^2 <= K for a public integer K. The released
query is the sum over clients, computed without rounding in 64-bit integers.

Claim (L2 sensitivity of the sum, in grid steps).
  add/remove:   |sum over D - sum over D'| = |v_c| <= sqrt(K).
  replace-one:  |v_c - v_c'|^2 = |v_c|^2 + |v_c'|^2 - 2 <v_c, v_c'> <= 2 K when all entries are non-negative, since then
                <v_c, v_c'> >= 0; for signed vectors Cauchy-Schwarz only gives 4 K.
Proof of the premise: K is compared with the integer sum of squares after the last rounding, so no floating-point error
enters, and no integer can wrap (`_any_exceeds`); a vector that fails the comparison never gets into a `Bounded`.
`bounded_sum` takes non-negative vectors with few entries (votes), `bounded_rows` signed dense ones (moments).

The default K allows a squared norm of `max_texts_per_client` votes: a client whose k texts choose k different
candidates is not scaled down, one whose k texts choose the same candidate counts as sqrt(k) votes instead of k. That
costs a sensitivity of sqrt(k), not k. With `normalize` smaller vectors are scaled up to the bound as well: the same
premise is checked, so the claim is the same, but now one client with one text puts sqrt(K) on one candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.units import Relation

Floats = NDArray[np.float64]
_Number = TypeVar("_Number", np.int64, np.float64)

GRID_BITS = 30
"""The norm bound spans 2^29 to 2^30 grid steps: fine enough that the discrete Gaussian costs what the continuous one
does (see `mechanisms`), coarse enough that twice the bound on a client's sum of squares, about 2^61, and the sum of
2^32 clients fit 64 bits with room to spare."""

_LARGEST_VALUE = 2**62
"""The most that a coordinate of a sum may hold, in grid steps: with noise on top it still fits 64 bits."""

_SHRINK = 1.0 - 2.0**-40
"""Factor below 1 that outweighs the rounding error of the floating-point scale factor (at most a few 2^-53)."""


@dataclass(frozen=True)
class Bounded:
    """A sum over clients that carries its own sensitivity.

    Attributes:
        value: shape (n,), int64, in grid steps. Private: not in the repr.
        grid: spacing of the grid, a power of two, in the query's own unit (votes).
        norm_squared: K, the largest squared L2 norm of one client's vector, in squared grid steps.
        nonnegative: whether every client's vector is entrywise non-negative.
    """

    value: NDArray[np.int64] = field(repr=False)
    grid: float
    norm_squared: int
    nonnegative: bool

    def __post_init__(self) -> None:
        if self.value.dtype != np.int64 or self.value.ndim != 1:
            raise InvalidParameter("A bounded value must be a vector of 64-bit integers.")
        if not 1 <= self.norm_squared <= 2**62:
            raise InvalidParameter("The bound on a client's squared norm must be 1 to 2^62 squared grid steps.")
        if ((self.value > _LARGEST_VALUE) | (self.value < -_LARGEST_VALUE)).any():  # the absolute value could wrap
            raise InvalidParameter("A bounded value is too large for noise on top of it to fit 64 bits.")

    @property
    def dimension(self) -> int:
        """Number of coordinates n."""
        return int(self.value.shape[0])

    def sensitivity_squared(self, relation: Relation) -> int:
        """Squared L2 sensitivity in squared grid steps; exact."""
        return sensitivity_squared(self.norm_squared, self.nonnegative, relation)


def sensitivity_squared(norm_squared: int, nonnegative: bool, relation: Relation) -> int:
    """Compute the squared L2 sensitivity of a sum of vectors of squared norm at most `norm_squared` (proof above)."""
    match relation:
        case Relation.ADD_REMOVE:
            return norm_squared
        case Relation.REPLACE_ONE:
            return (2 if nonnegative else 4) * norm_squared
        case _:
            assert_never(relation)


def grid_for(norm_squared: Fraction) -> tuple[float, int]:
    """Choose the grid's spacing for a bound on the squared norm (in squared votes), and K, the bound in squared steps.

    Raises:
        InvalidParameter: the bound is outside 2^-100 to 2^100.
    """
    if not Fraction(1, 2**100) <= norm_squared <= 2**100:
        raise InvalidParameter("The bound on a client's squared norm of votes must lie between 2^-100 and 2^100.")
    grid = 2.0 ** (math.ceil(math.log2(norm_squared) / 2) - GRID_BITS)
    return grid, math.floor(norm_squared / Fraction(grid) ** 2)


def bounded_sum(
    client: NDArray[np.int64],
    coordinate: NDArray[np.int64],
    weight: NDArray[np.float64],
    *,
    dimension: int,
    norm_squared: Fraction,
    normalize: bool = False,
) -> Bounded:
    """Sum the clients' non-negative vectors, each scaled to a squared L2 norm of at most `norm_squared`.

    The vectors come as triples: client c adds `weight` to `coordinate`; repeated pairs add up.

    Args:
        client: shape (m,), any integers that tell clients apart.
        coordinate: shape (m,), in [0, dimension).
        weight: shape (m,), 0 to 2^20, in votes.
        dimension: n, public.
        norm_squared: the bound C^2 in squared votes, public.
        normalize: also scale smaller vectors up to the bound, so that every client uses all of its sensitivity.

    Raises:
        InvalidParameter: a weight or a coordinate is out of range (the message names no value).
    """
    # The limit keeps every sum of squares far from overflow.
    if not ((weight >= 0) & (weight <= 2.0**20)).all():
        raise InvalidParameter("A client's vector holds a weight that is not between 0 and 2^20 votes.")
    if coordinate.size and not (coordinate.min() >= 0 and coordinate.max() < dimension):
        raise InvalidParameter(f"A client votes outside of the {dimension} coordinates.")
    grid, bound = grid_for(norm_squared)
    owner, where, votes = _merge_votes(client, coordinate, weight, dimension)
    steps = _scale_to_grid(owner, votes, norm_squared, normalize, grid)
    if _any_exceeds(steps, partial(_sum_by_owner, owner), bound):
        raise InvalidParameter("A client's vector exceeds its bound after scaling; refusing to release.")
    _check_count(int(owner[-1]) + 1 if owner.size else 0, bound)
    total = np.zeros(dimension, np.int64)
    np.add.at(total, where, steps.astype(np.int64))
    return Bounded(total, grid, bound, nonnegative=True)


def bounded_rows(blocks: Iterable[NDArray[np.float64]], *, dimension: int, norm_squared: Fraction) -> Bounded:
    """Sum the clients' signed vectors, one row a client, each scaled down to a squared L2 norm of `norm_squared`.

    Args:
        blocks: each of shape (clients, dimension), finite; one at a time is held, no client in two of them.
        dimension: n, public.
        norm_squared: the bound C^2, public.

    Raises:
        InvalidParameter: a row is not finite or has another length (the message names no value).
    """
    grid, bound = grid_for(norm_squared)
    total, clients = np.zeros(dimension, np.int64), 0
    for block in blocks:
        norms = np.sqrt(np.einsum("ij,ij->i", block, block))
        if block.shape[1] != dimension or not np.isfinite(norms).all():
            raise InvalidParameter(f"A client's vector is not {dimension} finite numbers; refusing to release.")
        scale = np.minimum(math.sqrt(norm_squared) / np.maximum(norms, 1e-300), 1.0) * _SHRINK
        steps = np.trunc(block * scale[:, None] / grid)
        if _any_exceeds(steps, _sum_by_row, bound):
            raise InvalidParameter("A client's vector exceeds its bound after scaling; refusing to release.")
        clients += len(block)
        _check_count(clients, bound)
        total += steps.astype(np.int64).sum(axis=0)
    return Bounded(total, grid, bound, nonnegative=False)


def _merge_votes(
    client: NDArray[np.int64], coordinate: NDArray[np.int64], weight: NDArray[np.float64], dimension: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Add up repeated (client, coordinate) pairs; owners are renumbered 0, 1, ... in ascending order."""
    _, owner = np.unique(client, return_inverse=True)
    keys, entry = np.unique(owner.astype(np.int64) * dimension + coordinate.astype(np.int64), return_inverse=True)
    votes = np.bincount(entry, weights=weight, minlength=keys.size)
    return keys // dimension, keys % dimension, votes.astype(np.float64)


def _scale_to_grid(
    owner: NDArray[np.int64], votes: NDArray[np.float64], norm_squared: Fraction, normalize: bool, grid: float
) -> Floats:
    """Scale each owner's votes to the bound and round them toward zero, in whole grid steps."""
    norms = np.sqrt(_sum_by_owner(owner, votes * votes))
    scale = math.sqrt(norm_squared) / np.maximum(norms, 1e-9)
    if not normalize:
        scale = np.minimum(scale, 1.0)
    return np.asarray(np.trunc(votes * (scale * _SHRINK)[owner] / grid))


def _any_exceeds(steps: Floats, sum_by_client: Callable[[NDArray[Any]], NDArray[Any]], bound: int) -> bool:
    """Whether the sum of squares of any client's entries exceeds K, in exact integers, whatever the entries are.

    Floats come first, since they cannot wrap: a sum of squares of at most 2 K < 2^62 (they are off by a relative
    2^-52 for each entry at most) means entries below 2^31, which integers hold exactly, and exact sums of squares below
    2^62 in 64-bit integers. What is larger, or not a number, is refused.

    Args:
        steps: whole numbers of grid steps.
        sum_by_client: adds up what belongs to one client.
        bound: K, at most about 2^60 (`grid_for`).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if not (sum_by_client(steps * steps) <= 2.0 * bound).all():
            return True
    whole = steps.astype(np.int64)
    return bool((sum_by_client(whole * whole) > bound).any())


def _check_count(clients: int, bound: int) -> None:
    """Refuse more clients than 64 bits can add up; each one adds at most sqrt(K) to a coordinate."""
    if clients * (math.isqrt(bound) + 1) > _LARGEST_VALUE:
        raise InvalidParameter("There are more clients than 64-bit integers can add up; refusing to release.")


def _sum_by_owner(owner: NDArray[np.int64], values: NDArray[_Number]) -> NDArray[_Number]:
    """Sum the values of each owner, shape (owners,)."""
    sums = np.zeros(int(owner[-1]) + 1 if owner.size else 0, values.dtype)
    np.add.at(sums, owner, values)
    return sums


def _sum_by_row(values: NDArray[_Number]) -> NDArray[_Number]:
    """Sum each row, shape (rows,)."""
    return np.asarray(values.sum(axis=1))
