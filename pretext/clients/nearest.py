"""Nearest candidates by inner product of unit vectors.

What a text is nearest to depends on that text and the candidates alone, to the last bit: otherwise a client's presence
could turn the votes of others, and the sensitivity would be more than that client's bound (Casacuberta et al. 2022
describe this kind of defect). A library's product of matrices does not give that: it rounds differently in other places
of a matrix. So all coordinates are put on a grid on which there is nothing to round, see `snap_to_grid`. Nor does
faiss say which of several equally near candidates it takes: that may depend on how many queries come at once. So such a
choice is made here: the first one is taken.

Exact below 100,000 candidates, and on a GPU (faiss). From there on an index of cells (faiss IVF) finds nearly all
nearest candidates in a fraction of the time: see `APPROXIMATE_FROM`. That does not touch the guarantee: a client's vote
may be any function of its own texts and of what is public, and the index is built from the public candidates alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pretext.errors import ModelError

APPROXIMATE_FROM = 100_000
"""Candidates from which the search is approximate, unless it runs on a GPU. Of 100,000 candidates mixed from embedded
messages it found the very nearest for 94.5 % of the texts (recall@1), and one 0.002 less similar on average, in 28 % of
the exact search's time; the index costs what the exact search of 5,000 texts costs. `scripts/bench/voting.py` measures
the same on any texts. Visiting twice as many cells gives 97 % in twice the time."""

_CELLS_PER_ROOT = 4
_VISITED_SHARE = 1 / 32
_TRAINING_ROUNDS = 3  # more cost more than they find
_CHUNK_ROWS = 1024
"""Queries at once: their products with 2,048 candidates still fit a processor's cache."""
_CHUNK_ROWS_GPU = 65_536
_MAX_SCORES = 2**25
"""Scores held at once: 128 MiB."""

_Search: TypeAlias = Callable[[NDArray[np.float32], int], NDArray[np.int64]]


def find_nearest(
    points: NDArray[np.float32], queries: NDArray[np.float32], q: int, rows: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The `q` nearest points of each query, best first.

    Of points with equal inner products the first ones are taken, whatever else is searched for at the same time; where
    the search is approximate, the choice may be another one, but it is a function of the query and the points too.
    A query that is zero or not a number is given some points, as any other, so that no vote is lost or doubled.

    Args:
        points: shape (n, d), unit rows.
        queries: shape (m, d), unit rows; searched in chunks, so that memory does not grow with m.
        q: how many; at most n are given.
        rows: the rows of `queries` to search for; default: all.

    Returns:
        shape (m, min(q, n)), row numbers of `points`; with `rows`, one line for each of them.

    Raises:
        ModelError: a point is not a number.
    """
    if not np.isfinite(points).all():
        raise ModelError(
            "The embedder gave a candidate a position that is not a number; set speed.dtype to float32, or name "
            "another models.embedder."
        )
    m = len(queries) if rows is None else len(rows)
    found = np.empty((m, min(q, len(points))), np.int64)
    points = snap_to_grid(points)
    search, chunk = _make_search(points)
    for start in range(0, m if found.shape[1] else 0, chunk):
        stop = start + chunk
        some = queries[start:stop] if rows is None else queries[rows[start:stop]]
        finite = np.isfinite(some).all(axis=1, keepdims=True)
        found[start:stop] = search(snap_to_grid(np.where(finite, some, 0)), found.shape[1])
    return found


def snap_to_grid(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length at most 1, scaled a little and rounded, whose inner products a computer gets exactly.

    Coordinates are multiples of 2^-12 and the length is at most 1 still: rounding adds at most sqrt(d) 2^-13 to it,
    which the scale takes off beforehand. So all terms of an inner product, and by Cauchy and Schwarz all partial sums
    of them in whatever order, are multiples of 2^-24 of size at most 1: float32 holds each of them exactly.
    """
    steps = np.float32(2**12)
    scale = steps * np.float32(1 - 1e-6 - math.sqrt(rows.shape[1]) / 2**13)
    moved = np.ascontiguousarray(rows * scale, dtype=np.float32)
    np.rint(moved, out=moved)
    moved /= steps
    return moved


def _make_search(points: NDArray[np.float32]) -> tuple[_Search, int]:
    """How to search points on the grid for queries on the grid, and how many of these to hand over at once."""
    import torch  # noqa: F401  # on some systems faiss crashes when it is loaded before torch

    # isort: split
    import faiss

    n, d = points.shape
    # Builds of faiss for the processor know nothing of GPUs.
    if hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus() > 0:
        index: Any = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(d))
        index.add(points)
        return partial(_search_flat_index, index, points), _CHUNK_ROWS_GPU
    if n >= APPROXIMATE_FROM:
        index = _build_cell_index(points)
        return partial(_search_cells, index, index.quantizer.reconstruct_n(0, index.nlist)), _CHUNK_ROWS
    return partial(_search_exactly, points), _chunk_rows(points)


def _search_exactly(points: NDArray[np.float32], queries: NDArray[np.float32], q: int) -> NDArray[np.int64]:
    """The `q` nearest points of each query, of equally near ones the first.

    All products and the first of the largest ones: as fast as a flat index of faiss, which would not say which one it
    takes (`scripts/bench/voting.py`).
    """
    scores = queries @ points.T
    found = np.empty((len(queries), q), np.int64)
    for place in range(q):
        found[:, place] = scores.argmax(axis=1)
        scores[np.arange(len(scores)), found[:, place]] = -np.inf
    return found


def _search_cells(index: Any, centers: NDArray[np.float32], queries: NDArray[np.float32], q: int) -> NDArray[np.int64]:
    """As `_search_exactly`, among the points in the cells that are nearest to the query."""
    cells = _search_flat_index(index.quantizer, centers, queries, index.nprobe)
    found = np.asarray(index.search_preassigned(queries, q, cells, np.zeros(cells.shape, np.float32))[1])
    _fill_open_places(found)
    return found


def _search_flat_index(
    index: Any, points: NDArray[np.float32], queries: NDArray[np.float32], q: int
) -> NDArray[np.int64]:
    """What a flat index finds, and the first of equally near points wherever the last place is not clear.

    faiss fills that place in one way for few queries and in another for many: one client more would turn the votes of
    all others that are equally near to two candidates.
    """
    scores, found = index.search(queries, min(q + 1, len(points)))
    order = np.lexsort((found, -scores))  # the first of equally near points first
    scores, found = np.take_along_axis(scores, order, axis=1), np.take_along_axis(found, order, axis=1)
    open_ = np.flatnonzero(scores[:, q - 1] == scores[:, q]) if q < len(points) else np.empty(0, np.int64)
    found, rows = found[:, :q], _chunk_rows(points)
    for start in range(0, open_.size, rows):
        some = open_[start : start + rows]
        found[some] = _search_exactly(points, queries[some], q)
    return found


def _chunk_rows(points: NDArray[np.float32]) -> int:
    return min(_CHUNK_ROWS, max(1, _MAX_SCORES // len(points)))


def _build_cell_index(points: NDArray[np.float32]) -> Any:
    """An index of cells; their centers are on the grid too."""
    import faiss

    n, d = points.shape
    cells = round(_CELLS_PER_ROOT * math.sqrt(n))
    index: Any = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, cells, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = math.ceil(_VISITED_SHARE * cells)
    index.cp.niter = _TRAINING_ROUNDS
    index.train(points)
    centers = index.quantizer.reconstruct_n(0, cells)
    index.quantizer.reset()
    index.quantizer.add(snap_to_grid(centers / np.maximum(1, np.linalg.norm(centers, axis=1, keepdims=True))))
    index.add(points)
    return index


def _fill_open_places(rows: NDArray[np.int64]) -> None:
    """Fill the places that faiss left open (-1), in place, with the first points that are not in the line yet."""
    for line in np.flatnonzero((rows < 0).any(axis=1)):
        given = rows[line][rows[line] >= 0]
        rows[line] = [*given, *np.setdiff1d(np.arange(rows.shape[1]), given)[: rows.shape[1] - len(given)]]
