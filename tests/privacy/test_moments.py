"""Moments: the premise of the guarantee in exact integers, and an adversary against the real noise.

Every statistical test rejects what is right with probability at most 1e-6, and has a twin that must reject noise whose
sigma is wrong by 20 %.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

import privacy.moments
from privacy import Bounded, DiscreteGaussian, InvalidParameter, Relation, calibrate, delta
from privacy.bounding import bounded_rows
from privacy.moments import MomentQuery, bounded_moments, moments_cost, moments_mechanism
from tests.support.moments import D, make_query

Floats = NDArray[np.float64]
numbers = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-300, 1e10, -1e10]), st.floats(-2.0, 2.0))
texts = st.lists(st.lists(numbers, min_size=D, max_size=D), min_size=1, max_size=4)
federations = st.dictionaries(st.integers(-3, 3), texts, max_size=4)


queries = st.builds(
    make_query, st.integers(0, 3), st.sampled_from([0.0, 0.2]), st.floats(0.1, 0.9), st.floats(0.01, 3.0)
)


def sum_moments(query: MomentQuery, federation: dict[int, list[list[float]]]) -> Bounded:
    pairs = [(client, row) for client, rows in federation.items() for row in rows]
    rows = np.array([row for _, row in pairs], np.float64).reshape(-1, D)
    return bounded_moments(query, rows, np.array([client for client, _ in pairs], np.int64))


def round_to_grid(values: object) -> Floats:
    return np.round(np.array(values) * 2**19) * 2**-19


def slow_vector(query: MomentQuery, rows: list[list[float]]) -> Floats:
    """One client's vector, coordinate by coordinate."""
    vectors = []
    for row in rows:
        x = round_to_grid(query.basis).T @ (round_to_grid(np.clip(row, -1, 1)) - round_to_grid(query.center))
        y = x / max(query.radius, float(np.linalg.norm(x)))
        z = x[: query.rank] / max(query.second_radius, float(np.linalg.norm(x[: query.rank])))
        second = [
            (1 if i == j else math.sqrt(2)) * z[i] * z[j] for i in range(query.rank) for j in range(i, query.rank)
        ]
        count = [query.count_weight] if query.count_weight else []
        vectors.append([*count, *(query.mean_weight * y), *(query.second_weight * np.array(second))])
    return np.mean(vectors, axis=0)


def norm_squared(steps: NDArray[np.int64]) -> int:
    return sum(int(step) ** 2 for step in steps)


# One client, and the sum


@given(queries, texts)
def test_a_client_never_exceeds_its_bound(query: MomentQuery, rows: list[list[float]]) -> None:
    bounded = sum_moments(query, {0: rows})
    assert norm_squared(bounded.value) <= bounded.norm_squared
    assert bounded.norm_squared * Fraction(bounded.grid) ** 2 <= 1
    assert not bounded.nonnegative


@given(queries, federations)
def test_the_sum_equals_the_slow_twin(query: MomentQuery, federation: dict[int, list[list[float]]]) -> None:
    bounded = sum_moments(query, federation)
    expected = sum((slow_vector(query, rows) for rows in federation.values()), np.zeros(query.dimension))
    np.testing.assert_allclose(bounded.value * bounded.grid, expected, atol=1e-6)


def test_a_client_s_vector_does_not_depend_on_others() -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((700, 384))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    basis = np.linalg.qr(rng.standard_normal((384, 384)))[0]
    query = MomentQuery(rows.mean(axis=0), basis[:, :301], 20, 0.7, 0.4, 0.6, 0.1)
    whole = query.vectors(rows)
    for subset in (np.array([5]), np.arange(17), np.arange(300, 431), rng.permutation(700)):
        np.testing.assert_array_equal(query.vectors(rows[subset]), whole[subset])


def test_a_hostile_query_cannot_tie_clients_together() -> None:
    """Entries as large as they may be, and rows far outside of the unit ball: still exact, in any company."""
    rng = np.random.default_rng(5)
    basis, center = rng.choice([-1.0, 1.0, 0.3], (512, 40)), rng.choice([-1.0, 1.0, 0.7], 512)
    query = MomentQuery(center, basis, 10, 0.5, 0.5, 0.6, 0.1)
    rows = rng.standard_normal((300, 512)) * 10.0 ** rng.integers(-3, 12, (300, 1))
    whole = query.vectors(rows)
    for subset in (np.array([5]), np.arange(17), rng.permutation(300)):
        np.testing.assert_array_equal(query.vectors(rows[subset]), whole[subset])


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows, client = rng.standard_normal((200, D)), rng.integers(0, 40, 200)
    whole = bounded_moments(make_query(), rows, client).value
    monkeypatch.setattr(privacy.moments, "_TEXTS_AT_ONCE", 7)
    np.testing.assert_allclose(bounded_moments(make_query(), rows, client).value, whole, atol=200)
    order = rng.permutation(200)
    np.testing.assert_allclose(bounded_moments(make_query(), rows[order], client[order]).value, whole, atol=200)


def test_a_client_of_many_texts_counts_as_one() -> None:
    single, many = (
        sum_moments(make_query(), {0: [[1.0, 0, 0, 0]]}),
        sum_moments(make_query(), {0: [[1.0, 0, 0, 0]] * 50}),
    )
    np.testing.assert_allclose(single.value, many.value, atol=4)


def test_no_clients_is_zero_with_the_same_sensitivity() -> None:
    empty, single = sum_moments(make_query(), {}), sum_moments(make_query(), {0: [[1.0, 0, 0, 0]]})
    assert not empty.value.any()
    assert (empty.norm_squared, empty.grid, empty.dimension) == (single.norm_squared, single.grid, single.dimension)


# Neighbors


@given(queries, federations, texts)
def test_adding_a_client_moves_the_sum_by_at_most_the_sensitivity(
    query: MomentQuery, federation: dict[int, list[list[float]]], rows: list[list[float]]
) -> None:
    without, present = sum_moments(query, federation), sum_moments(query, federation | {99: rows})
    assert norm_squared(present.value - without.value) <= present.sensitivity_squared(Relation.ADD_REMOVE)


@given(queries, federations, texts, texts)
def test_replacing_a_client_moves_the_sum_by_at_most_the_sensitivity(
    query: MomentQuery, federation: dict[int, list[list[float]]], before: list[list[float]], after: list[list[float]]
) -> None:
    old, new = sum_moments(query, federation | {99: before}), sum_moments(query, federation | {99: after})
    assert norm_squared(old.value - new.value) <= old.sensitivity_squared(Relation.REPLACE_ONE)


def test_signed_moments_need_more_than_root_two_when_replaced() -> None:
    query = MomentQuery(np.zeros(1), np.eye(1), 0, 1.0, 1.0, 1.0, 0.0)
    old = bounded_moments(query, np.array([[1.0]]), np.zeros(1, np.int64))
    new = bounded_moments(query, np.array([[-1.0]]), np.zeros(1, np.int64))
    change = norm_squared(old.value - new.value)
    assert change > 2 * old.norm_squared * 1.9
    assert change <= old.sensitivity_squared(Relation.REPLACE_ONE) == 4 * old.norm_squared


@pytest.mark.parametrize("relation", list(Relation))
def test_the_cost_is_that_of_the_drawing_object(relation: Relation) -> None:
    query = make_query()
    bounded = sum_moments(query, {0: [[1.0, 0, 0, 0]]})
    multiplier = calibrate(0.5, 1e-6, lambda m: moments_cost(query.dimension, moments_mechanism(m, relation), relation))
    noise = moments_mechanism(multiplier, relation)
    cost = noise.cost(bounded.dimension, bounded.sensitivity_squared(relation))
    assert cost == moments_cost(query.dimension, noise, relation)
    assert delta(cost, 0.5) <= 1e-6
    assert noise.standard_deviation == pytest.approx(multiplier * {"add/remove": 1, "replace-one": 2}[relation.value])
    assert noise.grid == bounded.grid


# An audit: the most telling test that an adversary has, on the real noise


def excess_delta(sigma_factor: float, relation: Relation) -> float:
    """By how much an adversary proves delta to be exceeded, for the releases of two worst-case neighbors.

    It asks whether the release is above a threshold, for thresholds every half standard deviation: (epsilon, delta)
    allows P(above | here) - e^epsilon P(above | there) <= delta. Both counts enter at a Clopper-Pearson bound of 1e-8,
    so that honest noise passes 0 with a probability below 1e-6.
    """
    epsilon, claim, draws = 0.2, 0.3, 25_000
    query = MomentQuery(np.zeros(1), np.eye(1), 0, 1.0, 1.0, 1.0, 0.0)
    multiplier = calibrate(epsilon, claim, lambda m: moments_cost(1, moments_mechanism(m, relation), relation))
    noise = moments_mechanism(multiplier, relation)
    noise = DiscreteGaussian(noise.sigma * sigma_factor, noise.grid)
    row = np.array([[1.0]])
    neighbor = -row if relation is Relation.REPLACE_ONE else np.empty((0, 1))
    above = []
    for rows in (row, neighbor):
        bounded = bounded_moments(query, rows, np.zeros(len(rows), np.int64))
        tiled = Bounded(np.tile(bounded.value, draws), bounded.grid, bounded.norm_squared, bounded.nonnegative)
        outcome = noise.draw(tiled) * noise.grid / noise.standard_deviation
        above.append(np.array([(outcome > threshold).sum() for threshold in np.arange(-1.0, 3.0, 0.5)]))
    low = stats.beta.ppf(1e-8, above[0], draws - above[0] + 1)
    high = stats.beta.ppf(1 - 1e-8, above[1] + 1, draws - above[1])
    return float((low - math.exp(epsilon) * high).max() - claim)


@pytest.mark.parametrize("relation", list(Relation))
def test_an_adversary_sees_no_more_than_epsilon(relation: Relation) -> None:
    assert excess_delta(1.0, relation) <= 0
    # Not by lack of power: with a fifth less noise the same adversary breaks the claim.
    assert excess_delta(0.8, relation) > 0


# Refusals


def test_the_digest_tells_queries_apart() -> None:
    query = make_query()
    same, wider = make_query(), dataclasses.replace(query, radius=1.0000001)
    assert query.digest == same.digest
    assert len({query.digest, wider.digest, dataclasses.replace(query, rank=1).digest}) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"basis": np.ones(4)}, "shape"),
        ({"basis": np.ones((3, 2))}, "shape"),
        ({"basis": np.ones((4, 0))}, "shape"),
        ({"basis": np.full((4, 2), np.nan)}, "finite"),
        ({"center": np.full(4, np.inf)}, "finite"),
        ({"basis": np.eye(4, 2) * (1 + 1e-5)}, "exceed 1"),
        ({"basis": np.eye(4, 2) * -1e6}, "exceed 1"),
        ({"basis": np.eye(4, 2) * 1e308}, "exceed 1"),
        ({"center": np.array([0, 0, 0, -1.5])}, "exceed 1"),
        ({"basis": np.eye(8193, 2), "center": np.zeros(8193)}, "2\\^13"),
        ({"rank": 4}, "0 to 3"),
        ({"rank": -1}, "0 to 3"),
        ({"radius": 0.0}, "radii"),
        ({"second_radius": math.inf}, "radii"),
        ({"mean_weight": 0.0}, "weights"),
        ({"count_weight": -0.1}, "weights"),
        ({"mean_weight": 0.99}, "weights"),
        ({"mean_weight": 1.0, "count_weight": 0.0}, "nothing for second moments"),
    ],
)
def test_queries_that_make_no_sense_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        dataclasses.replace(make_query(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_are_refused_and_not_named(bad: float) -> None:
    rows = np.array([[4711.25, 0, 0, 0], [bad, 0, 0, 0]])
    with pytest.raises(InvalidParameter) as caught, np.errstate(invalid="ignore"):
        bounded_moments(make_query(), rows, np.arange(2))
    assert "4711" not in str(caught.value)
    assert str(bad) not in str(caught.value)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="4 columns"):
        bounded_moments(make_query(), np.ones((3, 5)), np.arange(3))
    with pytest.raises(InvalidParameter, match="4 columns"):
        bounded_moments(make_query(), np.ones((3, 4)), np.arange(2))
    with pytest.raises(InvalidParameter, match="2 finite numbers"):
        bounded_rows([np.ones((1, 3))], dimension=2, norm_squared=Fraction(1))


def test_a_row_that_is_too_long_after_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The integer check guards the guarantee, not the floating-point scaling before it."""
    with monkeypatch.context() as patch:
        patch.setattr("privacy.bounding.math.sqrt", lambda _: math.inf)  # so that no row is scaled down
        bounded_rows([np.array([[0.6, -0.6, 0.5]])], dimension=3, norm_squared=Fraction(1))
        for row in ([1.1, 0, 0], [2, 2, 0], [1e12, -1e12, 0], [2**33, 0, 0], [2**34, 2**34, 2**34], [1e150, 0, 0]):
            with pytest.raises(InvalidParameter, match="refusing to release"):
                bounded_rows([np.array([row], float)], dimension=3, norm_squared=Fraction(1))
    monkeypatch.setattr("privacy.bounding._SHRINK", 1.5)
    with pytest.raises(InvalidParameter, match="refusing to release"):
        bounded_rows([np.array([[1.0]])], dimension=1, norm_squared=Fraction(1))
