"""Find the candidates nearest to each text, by inner product of unit vectors.

A text's nearest candidates must depend on that text and the candidates alone, to the last bit. Otherwise one client's
presence could turn the votes of others, and the sensitivity would exceed that client's bound (Casacuberta et al. 2022
describe this kind of defect). Two properties of libraries stand in the way:

1. A product of matrices rounds differently in different places of a matrix. `snap_to_grid` therefore puts all
   coordinates on a grid on which nothing is rounded.
2. faiss does not say which of several equally near candidates it takes; that may depend on how many queries come at
   once. Ties are therefore settled here: the first candidate wins.

The search is exact below 100,000 candidates and on a GPU (faiss). Above, an index of cells (faiss IVF) finds nearly all
nearest candidates in a fraction of the time, see `APPROXIMATE_FROM`. That does not touch the guarantee: a client's vote
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
"""Candidates from which the search is approximate, unless it runs on a GPU.

Of 100,000 candidates mixed from embedded messages it found the nearest one for 94.5 % of the texts (recall@1), and one
0.002 less similar on average otherwise, in 28 % of the exact search's time. Building the index costs as much as the
exact search of 5,000 texts. Visiting twice as many cells gives 97 % in twice the time. `scripts/bench/voting.py`
repeats the measurement on any texts."""

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
    """Find the `q` nearest points of each query, best first.

    Of points with equal inner products the first ones are taken, whatever else is searched for at the same time. An
    approximate search may choose differently, but its choice too is a function of the query and the points. A query
    that is zero or not a number gets some points like any other, so that no vote is lost or doubled.

    Args:
        points: shape (n, d), unit rows.
        queries: shape (m, d), unit rows; searched in chunks, so that memory does not grow with m.
        q: points per query, at most n.
        rows: the rows of `queries` to search for; default: all.

    Returns:
        shape (m, min(q, n)), row numbers of `points`; with `rows`, one line for each of those.

    Raises:
        ModelError: a point is not a number.
    """
    if not np.isfinite(points).all():
        raise ModelError(
            "The embedder gave a candidate a position that is not a number; set speed.dtype to float32, or name "
            "another models.embedder."
        )
    m = len(queries) if rows is None else len(rows)
    nearest = np.empty((m, min(q, len(points))), np.int64)
    points = snap_to_grid(points)
    search, chunk = _make_search(points)
    for start in range(0, m if nearest.shape[1] else 0, chunk):
        stop = start + chunk
        batch = queries[start:stop] if rows is None else queries[rows[start:stop]]
        finite = np.isfinite(batch).all(axis=1, keepdims=True)
        nearest[start:stop] = search(snap_to_grid(np.where(finite, batch, 0)), nearest.shape[1])
    return nearest


def snap_to_grid(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows of length at most 1 a little and round them, so that their inner products are exact.

    Coordinates become multiples of 2^-12, and the length stays at most 1: rounding adds at most sqrt(d) 2^-13 to it,
    which the scale takes off beforehand. So all terms of an inner product, and by Cauchy and Schwarz all partial sums
    of them in whatever order, are multiples of 2^-24 of size at most 1: float32 holds each of them exactly.
    """
    steps = np.float32(2**12)
    scale = steps * np.float32(1 - 1e-6 - math.sqrt(rows.shape[1]) / 2**13)
    snapped = np.ascontiguousarray(rows * scale, dtype=np.float32)
    np.rint(snapped, out=snapped)
    snapped /= steps
    return snapped


def _make_search(points: NDArray[np.float32]) -> tuple[_Search, int]:
    """Make a search among points on the grid for queries on the grid, and how many queries to hand over at once."""
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
    """Take the first of the largest inner products, `q` times.

    This is as fast as a flat index of faiss (`scripts/bench/voting.py`), which does not settle ties.
    """
    scores = queries @ points.T
    nearest = np.empty((len(queries), q), np.int64)
    for place in range(q):
        nearest[:, place] = scores.argmax(axis=1)
        scores[np.arange(len(scores)), nearest[:, place]] = -np.inf
    return nearest


def _search_cells(index: Any, centers: NDArray[np.float32], queries: NDArray[np.float32], q: int) -> NDArray[np.int64]:
    """Search the points in the cells nearest to each query."""
    cells = _search_flat_index(index.quantizer, centers, queries, index.nprobe)
    nearest = np.asarray(index.search_preassigned(queries, q, cells, np.zeros(cells.shape, np.float32))[1])
    _fill_open_places(nearest)
    return nearest


def _search_flat_index(
    index: Any, points: NDArray[np.float32], queries: NDArray[np.float32], q: int
) -> NDArray[np.int64]:
    """Search a flat index, and settle ties for the last place by the first point.

    faiss fills that place in one way for few queries and in another for many: one client more would turn the votes of
    all others that are equally near to two candidates.
    """
    scores, nearest = index.search(queries, min(q + 1, len(points)))
    order = np.lexsort((nearest, -scores))  # the first of equally near points first
    scores, nearest = np.take_along_axis(scores, order, axis=1), np.take_along_axis(nearest, order, axis=1)
    tied = np.flatnonzero(scores[:, q - 1] == scores[:, q]) if q < len(points) else np.empty(0, np.int64)
    nearest, rows = nearest[:, :q], _chunk_rows(points)
    for start in range(0, tied.size, rows):
        batch = tied[start : start + rows]
        nearest[batch] = _search_exactly(points, queries[batch], q)
    return nearest


def _chunk_rows(points: NDArray[np.float32]) -> int:
    return min(_CHUNK_ROWS, max(1, _MAX_SCORES // len(points)))


def _build_cell_index(points: NDArray[np.float32]) -> Any:
    """Build an index of cells, whose centers are on the grid too."""
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
    """Fill the places that faiss left open (-1), in place, with the first points that a line does not hold yet."""
    for line in np.flatnonzero((rows < 0).any(axis=1)):
        filled = rows[line][rows[line] >= 0]
        rows[line] = [*filled, *np.setdiff1d(np.arange(rows.shape[1]), filled)[: rows.shape[1] - len(filled)]]
