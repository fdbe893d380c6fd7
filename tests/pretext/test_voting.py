from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pretext import voting
from pretext.embedding import unit_rows
from pretext.voting import nearest


def points_of(seed: int, n: int, d: int = 8) -> NDArray[np.float32]:
    return unit_rows(np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32))


def twin(points: NDArray[np.float32], queries: NDArray[np.float32], q: int) -> NDArray[np.int64]:
    """By sorting all inner products."""
    return np.argsort(-(queries.astype(np.float64) @ points.T.astype(np.float64)), axis=1, kind="stable")[:, :q]


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 30), st.integers(1, 50))
def test_faiss_finds_what_numpy_finds(seed: int, n: int, m: int, q: int) -> None:
    points, queries = points_of(seed, n), points_of(seed + 1, m) if m else np.empty((0, 8), np.float32)
    found = nearest(points, queries, q)
    assert found.shape == (m, min(q, n)) and found.dtype == np.int64
    np.testing.assert_array_equal(found, twin(points, queries, min(q, n)))


def test_one_candidate_gets_every_vote() -> None:
    np.testing.assert_array_equal(nearest(points_of(0, 1), points_of(1, 5), 3), np.zeros((5, 1)))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8])
def test_chunks_do_not_show(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points, queries = points_of(0, 20), points_of(1, 7)
    whole = nearest(points, queries, 4)
    monkeypatch.setattr(voting, "_CHUNK_ROWS", rows)
    np.testing.assert_array_equal(nearest(points, queries, 4), whole)


def test_rows_out_of_a_larger_array_are_taken_as_they_are() -> None:
    points, queries = points_of(0, 20, 16)[::2, ::2], points_of(1, 6, 16)[::2, ::2]
    np.testing.assert_array_equal(nearest(points, queries, 2), twin(points, queries, 2))


def test_a_zero_row_still_votes_for_somebody() -> None:
    # An embedder may return a zero row; a vote lost or doubled would be a wrong count.
    found = nearest(points_of(0, 4), np.zeros((2, 8), np.float32), 2)
    assert ((found >= 0) & (found < 4)).all() and all(len(set(row)) == 2 for row in found)
