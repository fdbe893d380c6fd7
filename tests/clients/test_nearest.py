from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pretext.clients import nearest
from pretext.clients.nearest import find_nearest, snap_to_grid
from pretext.errors import ModelError
from pretext.vectors import normalize_rows


def points_of(seed: int, n: int, d: int = 8) -> NDArray[np.float32]:
    return normalize_rows(np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32))


def twin(points: NDArray[np.float32], queries: NDArray[np.float32], q: int) -> NDArray[np.int64]:
    """By sorting all inner products, computed in double precision."""
    points, queries = snap_to_grid(points), snap_to_grid(queries)
    return np.argsort(-(queries.astype(np.float64) @ points.T.astype(np.float64)), axis=1, kind="stable")[:, :q]


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 30), st.integers(1, 50))
def test_it_finds_what_sorting_finds(seed: int, n: int, m: int, q: int) -> None:
    points, queries = points_of(seed, n), points_of(seed + 1, m) if m else np.empty((0, 8), np.float32)
    rows = find_nearest(points, queries, q)
    assert rows.shape == (m, min(q, n)) and rows.dtype == np.int64
    np.testing.assert_array_equal(rows, twin(points, queries, min(q, n)))


def test_one_candidate_gets_every_vote() -> None:
    np.testing.assert_array_equal(find_nearest(points_of(0, 1), points_of(1, 5), 3), np.zeros((5, 1)))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8])
def test_chunks_do_not_show(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points, queries = points_of(0, 20), points_of(1, 7)
    whole = find_nearest(points, queries, 4)
    monkeypatch.setattr(nearest, "_CHUNK_ROWS", rows)
    np.testing.assert_array_equal(find_nearest(points, queries, 4), whole)


@pytest.mark.parametrize("n", [30, 2500])
@pytest.mark.parametrize("approximate", [False, True])
def test_queries_beside_it_do_not_turn_a_vote(n: int, approximate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Points so close to each other that a product rounded otherwise would choose another one.
    if approximate:
        monkeypatch.setattr(nearest, "APPROXIMATE_FROM", 2)
        monkeypatch.setattr(nearest, "_CELLS_PER_ROOT", 0.5)
    rng = np.random.default_rng(5)
    points = normalize_rows(1 + 2e-3 * rng.standard_normal((n, 384)).astype(np.float32))
    queries = normalize_rows(1 + 0.1 * rng.standard_normal((1500, 384)).astype(np.float32))
    whole = find_nearest(points, queries, 2)
    for rows in (np.array([3]), np.arange(700, 719), rng.permutation(1500)[:1100]):
        np.testing.assert_array_equal(find_nearest(points, queries, 2, rows.astype(np.int64)), whole[rows])


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 2000), st.sampled_from([1.0, 1e-3, 1e3]))
def test_inner_products_on_the_grid_are_exact_in_any_order(seed: int, d: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    rows = snap_to_grid(normalize_rows((1 + spread * rng.standard_normal((8, d))).astype(np.float32)))
    assert (np.linalg.norm(rows.astype(np.float64), axis=1) <= 1).all()
    exact = (rows * 2.0**12).astype(np.int64) @ (rows * 2.0**12).astype(np.int64).T / 2.0**24
    order = rng.permutation(d)
    for product in (rows @ rows.T, rows[:, order] @ rows[:, order].T, np.einsum("id,jd->ij", rows, rows)):
        np.testing.assert_array_equal(product.astype(np.float64), exact)


def test_the_grid_moves_a_row_little() -> None:
    rows = points_of(3, 200, 384)
    assert np.einsum("id,id->i", normalize_rows(snap_to_grid(rows)), rows).min() > 0.99999


def test_rows_out_of_a_larger_array_are_taken_as_they_are() -> None:
    points, queries = points_of(0, 20, 16)[::2, ::2], points_of(1, 6, 16)[::2, ::2]
    np.testing.assert_array_equal(find_nearest(points, queries, 2), twin(points, queries, 2))


def test_a_zero_row_still_votes_for_somebody() -> None:
    # An embedder may return a zero row; a vote lost or doubled would be a wrong count.
    rows = find_nearest(points_of(0, 4), np.zeros((2, 8), np.float32), 2)
    assert ((rows >= 0) & (rows < 4)).all() and all(len(set(row)) == 2 for row in rows)


def test_rows_choose_queries_in_their_order() -> None:
    points, queries = points_of(0, 20), points_of(1, 50)
    rows = np.random.default_rng(2).permutation(50)[:31].astype(np.int64)
    np.testing.assert_array_equal(find_nearest(points, queries, 3, rows), twin(points, queries[rows], 3))
    assert find_nearest(points, queries, 3, rows[:0]).shape == (0, 3)


@pytest.mark.parametrize("q", [1, 3, 6])
def test_queries_that_are_no_numbers_vote_like_any_other(q: int) -> None:
    queries = points_of(1, 5)
    queries[1], queries[3, 2] = np.nan, np.inf
    rows = find_nearest(points_of(0, 6), queries, q)
    assert ((rows >= 0) & (rows < 6)).all() and all(len(set(row)) == q for row in rows.tolist())
    np.testing.assert_array_equal(rows[[0, 2, 4]], twin(points_of(0, 6), queries[[0, 2, 4]], q))


def test_places_left_open_are_filled_without_repeats() -> None:
    rows = np.array([[-1, -1, -1], [1, -1, -1], [4, 0, -1], [2, 1, 0]])
    nearest._fill_open_places(rows)
    np.testing.assert_array_equal(rows, [[0, 1, 2], [1, 0, 2], [4, 0, 1], [2, 1, 0]])


def test_a_candidate_that_is_no_number_is_one_sentence() -> None:
    points = points_of(0, 4)
    points[2, 1] = np.nan
    with pytest.raises(ModelError, match=r"not a number; set speed\.dtype to float32"):
        find_nearest(points, points_of(1, 2), 1)


@pytest.mark.parametrize("q", [1, 4])
def test_equal_candidates_share_no_vote_and_the_choice_repeats(q: int) -> None:
    points = np.tile(points_of(0, 5), (4, 1))
    queries = points_of(1, 300)
    rows = find_nearest(points, queries, q)
    np.testing.assert_array_equal(rows, find_nearest(points, queries, q))
    np.testing.assert_array_equal(rows, twin(points, queries, q))
    # Each line holds the copies of the nearest point, and none of them twice.
    np.testing.assert_array_equal(rows % 5, np.repeat(twin(points[:5], queries, 1), q, axis=1))
    assert all(len(set(row)) == q for row in rows.tolist())


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize("q", [1, 2, 5])
def test_company_does_not_decide_between_equally_near_candidates(
    q: int, approximate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal points, and different ones with equal inner products, as texts cut to the same tokens have them."""
    if approximate:
        monkeypatch.setattr(nearest, "APPROXIMATE_FROM", 2)
        monkeypatch.setattr(nearest, "_CELLS_PER_ROOT", 0.5)
    base = points_of(0, 128, 384)
    mirrored = base * np.where(np.arange(384) < 300, 1, -1).astype(np.float32)
    points = np.concatenate([base, mirrored, base, base])[np.random.default_rng(2).permutation(512)]
    queries = points_of(1, 1400, 384)
    queries[::2, 300:] = 0
    whole = find_nearest(points, normalize_rows(queries), q)
    for m in (1, 2, 19, 20, 200, 333, 334, 1023, 1025, 1399):
        np.testing.assert_array_equal(find_nearest(points, normalize_rows(queries)[:m], q), whole[:m])
    if not approximate:
        np.testing.assert_array_equal(whole, twin(points, normalize_rows(queries), q))


def clustered(seed: int, n: int, centers: NDArray[np.float32]) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, centers.shape[1]), scale=0.1)
    return normalize_rows((centers[rng.integers(0, len(centers), n)] + noise).astype(np.float32))


def test_many_candidates_are_searched_approximately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "APPROXIMATE_FROM", 5000)
    centers = points_of(0, 60, 16)
    points, queries = clustered(1, 6000, centers), clustered(2, 500, centers)
    assert (
        nearest._build_cell_index(snap_to_grid(points)).nprobe < nearest._build_cell_index(snap_to_grid(points)).nlist
    )
    rows, exact = find_nearest(points, queries, 1), twin(points, queries, 1)
    assert (rows == exact).mean() > 0.9
    assert (np.sum(queries * points[rows[:, 0]], axis=1) > 0.8).all()  # and the others are close
    np.testing.assert_array_equal(rows, find_nearest(points, queries, 1))
    monkeypatch.setattr(nearest, "APPROXIMATE_FROM", 6001)
    np.testing.assert_array_equal(find_nearest(points, queries, 1), exact)


def test_many_ties_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every query ties where all candidates are doubled; scores of all of them at once would not fit a memory."""
    points, queries = np.tile(points_of(0, 5000, 16), (2, 1)), points_of(1, 1500, 16)
    most = 2**21
    monkeypatch.setattr(nearest, "_MAX_SCORES", most, raising=False)
    tracemalloc.start()
    try:
        rows = find_nearest(points, queries, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(rows[:20], twin(points, queries[:20], 1))
    assert peak < 4 * most + 8 * 2**20  # the scores, the rows and the answer
