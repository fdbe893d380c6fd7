"""The premise of the guarantee: no client moves the sum further than the bound says, in exact integers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from privacy import Bounded, InvalidParameter, Relation, bounded_sum, grid_for
from privacy.bounding import GRID_BITS, _any_exceeds, _check_count, _sum_by_row, sensitivity_squared
from tests.privacy.helpers import BOUND, Federation, add_up

Floats = NDArray[np.float64]
DIMENSION = 6
WRAPPING = [2.0**bits * sign for bits in (29, 30, 31, 31.5, 32, 33, 61, 62, 63, 64) for sign in (1, -1)]
"""Numbers of steps whose squares, or whose sums of squares, wrap around 64 bits."""
LARGEST = 2.0**20
"""The largest weight that is accepted, in votes."""

weights = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, 3.0, 1 / 3, 0.1, math.sqrt(8), math.sqrt(8 / 3), 1e-9, 5e-324, 1e3, LARGEST]),
    st.floats(0.0, LARGEST, allow_subnormal=True),
)
clients = st.lists(st.tuples(st.integers(0, DIMENSION - 1), weights), max_size=8)
federations = st.dictionaries(st.integers(-5, 5), clients, max_size=5)
bounds = st.one_of(
    st.sampled_from([Fraction(1), Fraction(8), Fraction(3), Fraction(1, 3), Fraction(4), Fraction(10**12)]),
    st.fractions(Fraction(1, 10**6), Fraction(10**6)),
)
all_bounds = st.one_of(
    bounds,
    st.sampled_from([Fraction(2) ** 100, Fraction(1, 2**100)]),
    st.fractions(Fraction(10**6), Fraction(2) ** 100),
    st.builds(lambda bound: 1 / bound, st.fractions(Fraction(10**6), Fraction(2) ** 100)),
)


def slow_sum(federation: Federation, norm_squared: Fraction, normalize: bool) -> list[Fraction]:
    """The slow twin: dense, one client at a time, in fractions and without the grid, in votes."""
    total = [Fraction(0)] * DIMENSION
    for votes in federation.values():
        vector = [Fraction(0)] * DIMENSION
        for where, weight in votes:
            vector[where] += Fraction(weight)
        norm = sum(entry * entry for entry in vector)
        if norm > norm_squared or (normalize and norm > 0):
            scale = square_root(norm_squared / norm)
            vector = [entry * scale for entry in vector]
        total = [left + right for left, right in zip(total, vector, strict=True)]
    return total


def square_root(value: Fraction) -> Fraction:
    """To a relative 2^-100 or better."""
    shift = 200 + 2 * max(0, value.denominator.bit_length() - value.numerator.bit_length())
    shift += shift % 2
    return Fraction(math.isqrt(value.numerator * 2**shift // value.denominator), 2 ** (shift // 2))


def integers(bounded: Bounded) -> list[int]:
    return [int(entry) for entry in bounded.value]


def distance_squared(left: Bounded, right: Bounded) -> int:
    return sum((a - b) ** 2 for a, b in zip(integers(left), integers(right), strict=True))


# One client


@given(clients, all_bounds, st.booleans())
def test_a_client_never_exceeds_its_bound(
    votes: list[tuple[int, float]], norm_squared: Fraction, normalize: bool
) -> None:
    bounded = add_up({0: votes}, DIMENSION, norm_squared, normalize)
    assert sum(entry**2 for entry in integers(bounded)) <= bounded.norm_squared
    assert bounded.norm_squared * Fraction(bounded.grid) ** 2 <= norm_squared
    assert min(integers(bounded)) >= 0


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    "votes",
    [
        [(0, math.sqrt(8))],
        [(i, math.sqrt(8 / 3)) for i in range(3)],
        [(0, 2.0), (1, 2.0)],
        [(0, 8.0)],
        [(i % 4, 1 / 3) for i in range(1000)],
        [(i, 1.0) for i in range(8)],
    ],
)
def test_weights_that_sit_on_the_bound(votes: list[tuple[int, float]], normalize: bool) -> None:
    bounded = add_up({7: votes}, 8, BOUND, normalize)
    squared = sum(entry**2 for entry in integers(bounded))
    assert squared <= bounded.norm_squared
    assert squared > bounded.norm_squared * (1 - 1e-7)


def test_votes_under_the_bound_stay_as_they_are() -> None:
    value = add_up({0: [(0, 1.0), (1, 2.0)]}, DIMENSION).value * grid_for(BOUND)[0]
    np.testing.assert_allclose(value, [1, 2, 0, 0, 0, 0], atol=1e-8)


def test_repeated_votes_add_up_before_they_are_clipped() -> None:
    eight_times = add_up({0: [(3, 1.0)] * 8}, DIMENSION)
    assert eight_times.value[3] * eight_times.grid == pytest.approx(math.sqrt(8), rel=1e-8)


def test_normalize_lifts_small_clients_to_the_bound() -> None:
    bounded = add_up({0: [(3, 0.001)]}, DIMENSION, normalize=True)
    assert bounded.value[3] * bounded.grid == pytest.approx(math.sqrt(8), rel=1e-8)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_client_without_votes_stays_zero(normalize: bool) -> None:
    assert not add_up({0: [(2, 0.0)]}, DIMENSION, normalize=normalize).value.any()


@pytest.mark.parametrize("normalize", [False, True])
def test_weights_that_add_up_to_infinity_cannot_get_past_the_bound(normalize: bool) -> None:
    with pytest.raises(InvalidParameter, match="between 0 and 2\\^20 votes"):
        add_up({0: [(3, 1e308), (3, 1e308)]}, DIMENSION, normalize=normalize)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("times", [1, 2, 100_000])
def test_the_largest_weights_are_clipped_without_a_warning(times: int, normalize: bool) -> None:
    bounded = add_up({0: [(3, LARGEST)] * times}, DIMENSION, normalize=normalize)
    assert bounded.value[3] * bounded.grid == pytest.approx(math.sqrt(8), rel=1e-8)
    assert sum(entry**2 for entry in integers(bounded)) <= bounded.norm_squared


@pytest.mark.parametrize("weight", [math.nextafter(LARGEST, math.inf), 1e150, 1e200, 1e308])
def test_larger_weights_are_refused_without_a_warning(weight: float) -> None:
    with pytest.raises(InvalidParameter, match="between 0 and 2\\^20 votes"):
        add_up({0: [(3, weight)]}, DIMENSION)


# The sum


@given(federations, bounds, st.booleans())
def test_the_sum_equals_the_slow_twin(federation: Federation, norm_squared: Fraction, normalize: bool) -> None:
    """Within the documented truncation: one grid step, and a relative 2^-38 for the scale factor, per client."""
    if normalize:  # below 1e-9 votes a client is lifted only part of the way
        federation = {
            client: votes for client, votes in federation.items() if sum(weight for _, weight in votes) > 1e-6
        }
    bounded = add_up(federation, DIMENSION, norm_squared, normalize)
    exact = slow_sum(federation, norm_squared, normalize)
    for steps, votes in zip(integers(bounded), exact, strict=True):
        error = votes - steps * Fraction(bounded.grid)
        assert abs(error) <= len(federation) * (Fraction(bounded.grid) + square_root(norm_squared) / 2**38)


@given(federations, st.randoms(use_true_random=False))
def test_the_order_of_the_triples_does_not_matter(federation: Federation, shuffler: object) -> None:
    triples = [(client, where, weight) for client, votes in federation.items() for where, weight in votes]
    # Dyadic weights, so that floating-point addition itself is exact in every order.
    triples = [(client, where, math.floor(min(weight, 1e6) * 4) / 4) for client, where, weight in triples]
    shuffled = list(triples)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(add_up_triples(triples).value, add_up_triples(shuffled).value)


def add_up_triples(triples: list[tuple[int, int, float]]) -> Bounded:
    return bounded_sum(
        np.array([client for client, _, _ in triples], np.int64),
        np.array([where for _, where, _ in triples], np.int64),
        np.array([weight for _, _, weight in triples], np.float64),
        dimension=DIMENSION,
        norm_squared=BOUND,
    )


@given(federations, st.booleans())
def test_the_names_of_the_clients_do_not_matter(federation: Federation, normalize: bool) -> None:
    with_other_names = {10**15 - client * 7: votes for client, votes in federation.items()}
    expected = add_up(federation, DIMENSION, normalize=normalize)
    np.testing.assert_array_equal(expected.value, add_up(with_other_names, DIMENSION, normalize=normalize).value)


def test_an_empty_federation_is_zero_with_the_same_sensitivity() -> None:
    bounded = add_up({}, DIMENSION)
    assert bounded.dimension == DIMENSION
    assert not bounded.value.any()
    assert bounded.norm_squared == grid_for(BOUND)[1]


def test_many_full_clients_do_not_overflow() -> None:
    bounded = add_up({client: [(0, 100.0)] for client in range(20_000)}, 2)
    assert bounded.value[0] * bounded.grid == pytest.approx(20_000 * math.sqrt(8), rel=1e-8)


# Neighbors


@given(federations, clients, bounds, st.booleans())
def test_adding_or_removing_a_client_moves_the_sum_by_at_most_the_sensitivity(
    federation: Federation, votes: list[tuple[int, float]], norm_squared: Fraction, normalize: bool
) -> None:
    without = add_up(federation, DIMENSION, norm_squared, normalize)
    present = add_up(federation | {99: votes}, DIMENSION, norm_squared, normalize)
    assert distance_squared(without, present) <= present.sensitivity_squared(Relation.ADD_REMOVE)
    assert without.norm_squared == present.norm_squared, "the sensitivity must not depend on the data"
    assert without.grid == present.grid


@given(federations, clients, clients, bounds, st.booleans())
def test_replacing_a_client_moves_the_sum_by_at_most_the_sensitivity(
    federation: Federation,
    before: list[tuple[int, float]],
    after: list[tuple[int, float]],
    norm_squared: Fraction,
    normalize: bool,
) -> None:
    old = add_up(federation | {99: before}, DIMENSION, norm_squared, normalize)
    new = add_up(federation | {99: after}, DIMENSION, norm_squared, normalize)
    assert distance_squared(old, new) <= old.sensitivity_squared(Relation.REPLACE_ONE)


def test_the_replace_one_sensitivity_is_reached() -> None:
    """Two clients that share no candidate: sqrt 2 is needed, 1 would be too small."""
    old, new = add_up({0: [(0, 9.0)]}, 2), add_up({0: [(1, 9.0)]}, 2)
    distance = distance_squared(old, new)
    assert distance > old.sensitivity_squared(Relation.ADD_REMOVE)
    assert distance >= old.sensitivity_squared(Relation.REPLACE_ONE) * (1 - 1e-7)


def test_signed_vectors_need_twice_the_norm_when_replaced() -> None:
    assert sensitivity_squared(5, False, Relation.ADD_REMOVE) == 5
    assert sensitivity_squared(5, True, Relation.REPLACE_ONE) == 10
    assert sensitivity_squared(5, False, Relation.REPLACE_ONE) == 20


# The grid


@given(all_bounds)
def test_the_grid_is_fine_and_cannot_overflow(norm_squared: Fraction) -> None:
    grid, bound = grid_for(norm_squared)
    assert math.frexp(grid)[0] == 0.5
    assert bound * (1 + 1e-12) >= 2 ** (2 * GRID_BITS - 2)
    assert bound <= 2 ** (2 * GRID_BITS) * (1 + 1e-12) < 2**63
    assert bound * Fraction(grid) ** 2 <= norm_squared < (bound + 1) * Fraction(grid) ** 2


@pytest.mark.parametrize("norm_squared", [Fraction(0), Fraction(-1), Fraction(-1, 10**9)])
def test_a_bound_must_be_positive(norm_squared: Fraction) -> None:
    with pytest.raises(InvalidParameter, match=r"between 2\^-100 and 2\^100"):
        grid_for(norm_squared)


@pytest.mark.parametrize(
    "norm_squared",
    [
        Fraction(10) ** 400,
        Fraction(1, 10**400),
        Fraction(2) ** 100 + Fraction(1, 10**9),
        Fraction(1, 2**100) - Fraction(1, 2**200),
    ],
)
def test_an_absurd_bound_is_refused_in_a_sentence(norm_squared: Fraction) -> None:
    with pytest.raises(InvalidParameter, match=r"between 2\^-100 and 2\^100\.$"):
        grid_for(norm_squared)


# Refusals, and what they may say


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf, -1.0, -5e-324])
def test_bad_weights_are_refused_and_not_named(weight: float) -> None:
    with pytest.raises(InvalidParameter) as caught:
        add_up({0: [(1, 4711.25), (2, weight)]}, DIMENSION)
    assert str(weight) not in str(caught.value)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize("coordinate", [-1, DIMENSION, 10**12])
def test_bad_coordinates_are_refused_and_not_named(coordinate: int) -> None:
    with pytest.raises(InvalidParameter) as caught:
        add_up({0: [(coordinate, 1.0)]}, DIMENSION)
    assert str(caught.value) == f"A client votes outside of the {DIMENSION} coordinates."


def test_a_vector_that_is_too_long_after_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The integer check guards the guarantee, not the floating-point scaling before it."""

    def double(owner: object, votes: NDArray[np.float64], norm: object, normalize: bool, grid: float) -> Floats:
        return np.trunc(2 * votes / grid)

    monkeypatch.setattr("privacy.bounding._scale_to_grid", double)
    assert add_up({0: [(0, 1.0)]}, DIMENSION).value[0] > 0
    with pytest.raises(InvalidParameter, match="refusing to release") as caught:
        add_up({0: [(0, 1.0)], 1: [(0, 1.5)]}, DIMENSION)
    assert "1.5" not in str(caught.value)


def just_round(owner: object, votes: Floats, norm: object, normalize: bool, grid: float) -> Floats:
    return np.trunc(votes / grid)


@pytest.mark.parametrize("norm_squared", [Fraction(1), Fraction(8), Fraction(16), Fraction(10**12)])
@pytest.mark.parametrize(
    "texts", [[8, 8], [16, 16], [32], [64, 64, 64, 64], [100], [1] * 17, [2**10] * 8, [2**20], [2**20] * 4]
)
def test_a_vector_without_scaling_is_refused_however_large(
    texts: list[int], norm_squared: Fraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Squares and sums of squares that wrap around 64 bits to something small or negative are none that pass."""
    monkeypatch.setattr("privacy.bounding._scale_to_grid", just_round)
    votes = {0: [(where, float(count)) for where, count in enumerate(texts)]}
    if sum(count**2 for count in texts) > norm_squared:
        with pytest.raises(InvalidParameter, match="refusing to release"):
            add_up(votes, 32, norm_squared)
    else:
        assert add_up(votes, 32, norm_squared).value.any()


@given(st.lists(st.one_of(st.floats(-(2.0**70), 2.0**70), st.sampled_from(WRAPPING)), max_size=6))
def test_the_check_agrees_with_integers_of_any_length(entries: list[float]) -> None:
    steps = np.trunc(np.array([entries, [0.0] * len(entries)]))
    bound = grid_for(BOUND)[1]
    expected = any(sum(int(entry) ** 2 for entry in row) > bound for row in steps)
    assert _any_exceeds(steps, _sum_by_row, bound) == expected
    assert _any_exceeds(steps[0], lambda values: values.sum(keepdims=True), bound) == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e308])
def test_what_is_no_number_of_steps_exceeds_every_bound(bad: float) -> None:
    assert _any_exceeds(np.array([[0.0, bad]]), _sum_by_row, grid_for(BOUND)[1])


def test_more_clients_than_integers_can_add_up_are_refused() -> None:
    bound = grid_for(BOUND)[1]
    _check_count(2**31, bound)
    with pytest.raises(InvalidParameter, match="more clients") as caught:
        _check_count(2**33, bound)
    assert str(2**33) not in str(caught.value)


def test_repr_shows_no_value() -> None:
    bounded = add_up({0: [(0, 1.0)]}, DIMENSION)
    text = repr(bounded) + str(bounded) + f"{bounded}"
    assert "value" not in text
    assert str(int(bounded.value[0])) not in text
    assert "array" not in text


@pytest.mark.parametrize("norm_squared", [0, -1, 2**62 + 1, 2**64])
def test_a_bounded_without_sensitivity_cannot_be_made(norm_squared: int) -> None:
    with pytest.raises(InvalidParameter, match="1 to 2\\^62"):
        Bounded(np.ones(3, np.int64), 1.0, norm_squared, nonnegative=True)


@pytest.mark.parametrize("norm_squared", [1, 2**62])
def test_the_smallest_and_the_largest_norm_of_a_bounded(norm_squared: int) -> None:
    assert Bounded(np.ones(3, np.int64), 1.0, norm_squared, nonnegative=True).norm_squared == norm_squared


@pytest.mark.parametrize("value", [np.ones(3), np.ones(3, np.int32), np.ones((3, 1), np.int64), np.ones((), np.int64)])
def test_a_bounded_is_a_vector_of_integers(value: NDArray[np.int64]) -> None:
    with pytest.raises(InvalidParameter, match="vector of 64-bit integers"):
        Bounded(value, 1.0, 1, nonnegative=True)


@pytest.mark.parametrize("entry", [2**62 + 1, -(2**62) - 1, 2**63 - 1, -(2**63)])
def test_a_sum_that_may_wrap_under_noise_is_refused_and_not_named(entry: int) -> None:
    Bounded(np.array([2**62, -(2**62)]), 1.0, 1, nonnegative=True)
    with pytest.raises(InvalidParameter, match="fit 64 bits") as caught:
        Bounded(np.array([0, entry]), 1.0, 1, nonnegative=True)
    assert str(abs(entry)) not in str(caught.value)
