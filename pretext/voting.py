"""Nearest candidates by inner product of unit vectors, with faiss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK_ROWS = 8192


def nearest(points: NDArray[np.float32], queries: NDArray[np.float32], q: int) -> NDArray[np.int64]:
    """The `q` nearest points of each query, best first.

    Args:
        points: shape (n, d), unit rows.
        queries: shape (m, d), unit rows; searched in chunks, so that memory does not grow with m.
        q: how many; at most n are given.

    Returns:
        shape (m, min(q, n)), row numbers of `points`.
    """
    import torch  # noqa: F401  # on some systems faiss crashes when it is loaded before torch

    # isort: split
    import faiss

    index = faiss.IndexFlatIP(points.shape[1])
    index.add(np.ascontiguousarray(points))
    found = np.empty((len(queries), min(q, len(points))), np.int64)
    for start in range(0, len(queries), _CHUNK_ROWS):
        chunk = np.ascontiguousarray(queries[start : start + _CHUNK_ROWS])
        found[start : start + _CHUNK_ROWS] = index.search(chunk, found.shape[1])[1]
    return found
