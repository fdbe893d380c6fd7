from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pretext.clients.private_data import PrivateTexts
from pretext.clients.voting import Ballot, Clients, VoteRule
from pretext.vectors import normalize_rows
from privacy import Bounded, Relation

SECRET = "zqxj-unique-secret"


def random_clients(seed: int, clients: int, labels: int, most: int = 6) -> Clients:
    rng = np.random.default_rng(seed)
    owner = np.repeat(rng.permutation(1000)[:clients], rng.integers(1, most + 1, clients)).astype(np.int64)
    rows = normalize_rows(rng.normal(size=(len(owner), 5)).astype(np.float32))
    return Clients(rows, owner, rng.integers(0, labels, len(owner)))


def random_ballot(seed: int, n: int, labels: int) -> Ballot:
    rng = np.random.default_rng(seed)
    return Ballot(normalize_rows(rng.normal(size=(n, 5)).astype(np.float32)), rng.integers(0, labels, n))


def twin(clients: Clients, ballot: Ballot, rule: VoteRule) -> NDArray[np.float64]:
    """One client at a time, one dense vector each, in floating point."""
    total = np.zeros(len(ballot.label))
    bound = math.sqrt(rule.norm_squared)
    for owner in set(clients.client.tolist()):
        vector = np.zeros(len(ballot.label))
        for row in np.flatnonzero(clients.client == owner):
            same = np.flatnonzero(ballot.label == clients.label[row])
            scores = ballot.points[same].astype(float) @ clients.embeddings[row].astype(float)
            if rule.nearest == 1 and len(same):
                vector[same[np.argmax(scores)]] += 1.0
                continue
            nearest = same[np.argsort(-scores)[: rule.nearest]]
            vector[nearest] += 1.0 / max(1, len(nearest))
        norm = float(np.linalg.norm(vector))
        if norm > bound or (rule.normalize and norm > 0):
            vector *= bound / norm
        total += vector
    return np.asarray(total, dtype=np.float64)


def votes(clients: Clients, ballot: Ballot, rule: VoteRule) -> NDArray[np.float64]:
    bounded = clients.vote(ballot, rule)
    return np.asarray(bounded.value * bounded.grid, dtype=np.float64)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("nearest", [1, 3, 50])
@pytest.mark.parametrize("norm_squared", [Fraction(1, 3), Fraction(2), Fraction(100)])
def test_the_votes_of_the_slow_twin(nearest: int, labels: int, normalize: bool, norm_squared: Fraction) -> None:
    rule = VoteRule(nearest, norm_squared, normalize)
    for seed in range(5):
        clients, ballot = random_clients(seed, 15, labels), random_ballot(seed + 100, 12, labels)
        # Rounding toward the grid loses at most two steps per client and candidate.
        np.testing.assert_allclose(votes(clients, ballot, rule), twin(clients, ballot, rule), atol=1e-6)


def without(clients: Clients, owner: int) -> Clients:
    kept = clients.client != owner
    return Clients(clients.embeddings[kept], clients.client[kept], clients.label[kept])


def together(first: Clients, second: Clients) -> Clients:
    return Clients(
        np.concatenate([first.embeddings, second.embeddings]),
        np.concatenate([first.client, second.client]),
        np.concatenate([first.label, second.label]),
    )


def distance_squared(first: Bounded, second: Bounded) -> int:
    """In exact integers: numpy's 64 bits would overflow."""
    assert (first.grid, first.norm_squared) == (second.grid, second.norm_squared)
    return sum((int(a) - int(b)) ** 2 for a, b in zip(first.value, second.value, strict=True))


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    clients=st.integers(2, 8),
    labels=st.integers(1, 3),
    nearest=st.integers(1, 4),
    n=st.integers(2, 9),
    normalize=st.booleans(),
    norm=st.one_of(st.floats(0.01, 20), st.integers(1, 9).map(math.sqrt)),
    texts=st.integers(1, 60),
)
def test_neighbors_differ_by_at_most_the_sensitivity(
    seed: int, clients: int, labels: int, nearest: int, n: int, normalize: bool, norm: float, texts: int
) -> None:
    rule = VoteRule(nearest, Fraction(norm) ** 2, normalize)
    ballot = random_ballot(seed + 1, n, labels)
    everybody = random_clients(seed, clients, labels)
    fewer = without(everybody, int(everybody.client[0]))
    whole, smaller = everybody.vote(ballot, rule), fewer.vote(ballot, rule)
    assert distance_squared(whole, smaller) <= whole.sensitivity_squared(Relation.ADD_REMOVE)
    # The newcomer may hold any number of texts; the cap of the door is not what the proof rests on.
    rng = np.random.default_rng(seed + 2)
    rows = normalize_rows(rng.normal(size=(texts, 5)).astype(np.float32))
    newcomer = Clients(rows, np.full(texts, 5000), rng.integers(0, labels, texts))
    replaced = together(fewer, newcomer).vote(ballot, rule)
    assert distance_squared(whole, replaced) <= whole.sensitivity_squared(Relation.REPLACE_ONE)
    assert whole.nonnegative and (whole.value >= 0).all() and (smaller.value <= whole.value).all()


def test_one_client_more_does_not_turn_the_votes_between_equal_candidates() -> None:
    """Candidates that agree in the tokens the embedder reads stand in one place; 128,000 / 384 is where faiss changes
    its way through the queries."""
    rng = np.random.default_rng(0)
    points = np.tile(normalize_rows(rng.normal(size=(512, 384)).astype(np.float32)), (2, 1))[rng.permutation(1024)]
    rows = normalize_rows(rng.normal(size=(334, 384)).astype(np.float32))
    everybody = Clients(rows, np.arange(334), np.zeros(334, np.int64))
    ballot, rule = Ballot(points, np.zeros(1024, np.int64)), VoteRule(1, Fraction(1), False)
    whole, smaller = everybody.vote(ballot, rule), without(everybody, 333).vote(ballot, rule)
    assert distance_squared(whole, smaller) <= whole.sensitivity_squared(Relation.ADD_REMOVE)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("labels", [1, 4])
def test_a_client_with_all_texts_counts_as_its_bound(labels: int, normalize: bool) -> None:
    ballot = random_ballot(3, 20, labels)
    rng = np.random.default_rng(4)
    rows = normalize_rows(rng.normal(size=(3000, 5)).astype(np.float32))
    glutton = Clients(rows, np.zeros(3000, np.int64), rng.integers(0, labels, 3000))
    bounded = glutton.vote(ballot, VoteRule(1, Fraction(8), normalize))
    norm_squared = sum(int(value) ** 2 for value in bounded.value)
    # Over all labels together, not sqrt(labels) times as much; and the bound is used, not wasted.
    assert 0.999 * bounded.norm_squared < norm_squared <= bounded.norm_squared
    assert bounded.norm_squared * Fraction(bounded.grid) ** 2 <= 8


def test_the_bound_holds_over_all_labels() -> None:
    # A client whose two texts have different labels: normalized per label it would count sqrt(2).
    points = np.eye(2, 5, dtype=np.float32)
    clients = Clients(points, np.zeros(2, np.int64), np.array([0, 1]))
    got = votes(clients, Ballot(points, np.array([0, 1])), VoteRule(1, Fraction(1), True))
    np.testing.assert_allclose(got, [math.sqrt(0.5)] * 2, atol=1e-6)


def test_texts_vote_for_their_own_label_only() -> None:
    points = np.eye(3, 5, dtype=np.float32)
    clients = Clients(points[[0, 1]], np.array([0, 1]), np.array([1, 1]))
    # Candidate 0 is nearest to the first text but carries another label.
    got = votes(clients, Ballot(points, np.array([0, 1, 1])), VoteRule(1, Fraction(1), False))
    assert got[0] == 0 and got.sum() == pytest.approx(2)


def test_labels_without_candidates_or_texts() -> None:
    points = np.eye(3, 5, dtype=np.float32)
    clients = Clients(points, np.arange(3), np.array([0, 2, 2]))
    got = votes(clients, Ballot(points, np.array([0, 0, 1])), VoteRule(2, Fraction(1), True))
    # Label 1 has no texts and label 2 no candidates: only client 0 votes.
    assert got[2] == 0 and got[:2].sum() == pytest.approx(math.sqrt(2), abs=1e-6)


def test_nobody_votes_when_no_label_matches() -> None:
    points = np.eye(2, 5, dtype=np.float32)
    bounded = Clients(points, np.arange(2), np.array([1, 1])).vote(
        Ballot(points, np.array([0, 0])), VoteRule(1, Fraction(1), True)
    )
    assert not bounded.value.any() and bounded.dimension == 2


def test_clients_are_embedded_once_and_tell_nothing() -> None:
    batches: list[list[str]] = []

    def embed(texts: list[str], *, announce: str | None = None) -> NDArray[np.float32]:
        batches.append(list(texts))
        return np.eye(len(texts), 5, dtype=np.float32)

    clients = Clients.embed(PrivateTexts([SECRET, "b"], np.array([0, 1]), np.zeros(2, np.int64)), embed)  # type: ignore[arg-type]
    bounded = clients.vote(
        Ballot(np.eye(2, 5, dtype=np.float32), np.zeros(2, np.int64)), VoteRule(1, Fraction(1), False)
    )
    assert batches == [[SECRET, "b"]]
    assert repr(clients) == str(clients) == "Clients()"
    assert "value" not in repr(bounded)
