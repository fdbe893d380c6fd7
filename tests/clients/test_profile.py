from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretext.clients.voting import Clients
from pretext.profile.query import NORM_SQUARED, ProfileQuery
from pretext.profile.vocabulary import build_vocabulary, public_clip
from pretext.vectors import normalize_rows
from privacy import Bounded, DiscreteGaussian, InvalidParameter, Relation

WORDS = ["Can", "you", "book", "a", "table", "?", "Yes", "please", ".", "12"]
DIMENSION, CLUSTERS, MOST_TEXTS = 5, 7, 4


def sentences(rng: np.random.Generator, count: int) -> list[str]:
    return [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(count)]


def make_query(labels: int = 1) -> ProfileQuery:
    rng = np.random.default_rng(1)
    pool = sentences(rng, 200)
    vocabulary = build_vocabulary(pool, ["table", "plane"], 120)
    centers = normalize_rows(rng.normal(size=(CLUSTERS, DIMENSION)).astype(np.float32))
    return ProfileQuery.weigh(vocabulary, centers, labels, public_clip(vocabulary, pool, MOST_TEXTS), MOST_TEXTS, 0.7)


def random_clients(seed: int, clients: int, labels: int = 1) -> Clients:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(clients), rng.integers(1, MOST_TEXTS + 1, clients))
    rows = normalize_rows(rng.normal(size=(len(owner), DIMENSION)).astype(np.float32))
    return Clients(rows, owner, rng.integers(0, labels, len(owner)), sentences(rng, len(owner)))


def select(clients: Clients, kept: np.ndarray) -> Clients:
    texts = [text for text, keep in zip(clients.texts, kept, strict=True) if keep]
    return Clients(clients.embeddings[kept], clients.client[kept], clients.label[kept], texts)


def distance_squared(first: Bounded, second: Bounded) -> int:
    return sum((int(a) - int(b)) ** 2 for a, b in zip(first.value, second.value, strict=True))


@pytest.mark.parametrize("labels", [1, 3])
def test_profile__some_clients__is_the_sum_of_their_bounded_vectors(labels: int) -> None:
    query, clients = make_query(labels), random_clients(3, 12, labels)
    features = len(query.vocabulary.features)
    total = np.zeros((labels, query.width))
    for owner in range(12):
        vector = np.zeros((labels, query.width))
        for row in np.flatnonzero(clients.client == owner):
            own = vector[clients.label[row]]
            own[:features] += query.feature_weight * query.vocabulary.matrix([clients.texts[row]]).toarray()[0]
            own[features + np.argmax(query.centers @ clients.embeddings[row])] += query.cluster_weight
            own[-1] += query.count_weight
        total += vector / max(1.0, float(np.linalg.norm(vector)))
    bounded = clients.profile(query)
    np.testing.assert_allclose(bounded.value * bounded.grid, total.ravel(), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_profile__one_client_less_or_another__changes_by_its_sensitivity_at_most(seed: int, labels: int) -> None:
    query = make_query(labels)
    clients, another = random_clients(seed, 6, labels), random_clients(seed + 1, 6, labels)
    leaver = seed % 6
    rest = select(clients, clients.client != leaver)
    whole, without = clients.profile(query), rest.profile(query)
    assert distance_squared(whole, without) <= whole.sensitivity_squared(Relation.ADD_REMOVE)
    newcomer = select(another, another.client == leaver)
    replaced = Clients(
        np.concatenate([rest.embeddings, newcomer.embeddings]),
        np.concatenate([rest.client, newcomer.client]),
        np.concatenate([rest.label, newcomer.label]),
        [*rest.texts, *newcomer.texts],
    ).profile(query)
    assert distance_squared(whole, replaced) <= whole.sensitivity_squared(Relation.REPLACE_ONE)


def test_profile__one_client_with_much_to_say__reaches_the_bound() -> None:
    query = make_query()
    words = " ".join(WORDS)
    rows = normalize_rows(np.ones((MOST_TEXTS, DIMENSION), np.float32))
    clients = Clients(rows, np.zeros(MOST_TEXTS, np.int64), np.zeros(MOST_TEXTS, np.int64), [words] * MOST_TEXTS)
    bounded = clients.profile(query)
    norm = math.sqrt(sum(int(value) ** 2 for value in bounded.value)) * bounded.grid
    assert 0.999 < norm <= math.sqrt(NORM_SQUARED)
    assert bounded.nonnegative


def test_profile__clients_without_texts__is_refused() -> None:
    clients = random_clients(0, 3)
    with pytest.raises(InvalidParameter):
        Clients(clients.embeddings, clients.client, clients.label).profile(make_query())


def test_read__an_answer_without_noise__gives_the_shares_of_the_texts() -> None:
    query = make_query()
    rng = np.random.default_rng(5)
    clients = 300
    rows = normalize_rows(rng.normal(size=(clients, DIMENSION)).astype(np.float32))
    texts = sentences(rng, clients)
    bounded = Clients(rows, np.arange(clients), np.zeros(clients, np.int64), texts).profile(query)
    (profile,) = query.read(bounded.value * bounded.grid, 1e-9)
    assert profile.texts == pytest.approx(clients, rel=1e-6)
    np.testing.assert_allclose(profile.features, query.vocabulary.matrix(texts).mean(axis=0), atol=1e-6)
    assert profile.clusters.sum() == pytest.approx(1.0, rel=1e-6)


def test_digest__another_word_center_or_weight__differs() -> None:
    query = make_query()
    others = [
        ProfileQuery(query.vocabulary, query.centers, 1, query.feature_weight, query.cluster_weight, 0.1),
        ProfileQuery(query.vocabulary, query.centers[::-1], 1, *weights_of(query)),
        ProfileQuery(query.vocabulary, query.centers, 2, *weights_of(query)),
        ProfileQuery(build_vocabulary(["a b c"] * 5, [], 40), query.centers, 1, *weights_of(query)),
    ]
    assert len({query.digest, *(other.digest for other in others)}) == 5


def weights_of(query: ProfileQuery) -> tuple[float, float, float]:
    return query.feature_weight, query.cluster_weight, query.count_weight


def test_cost__of_a_profile__is_that_of_its_mechanism_on_the_unit_norm() -> None:
    query, clients = make_query(), random_clients(0, 5)
    mechanism = DiscreteGaussian.for_sum(3.0, NORM_SQUARED, Relation.ADD_REMOVE)
    bounded = clients.profile(query)
    cost = mechanism.cost(bounded.dimension, bounded.sensitivity_squared(Relation.ADD_REMOVE))
    assert cost.mu_squared <= 1 / 9 * (1 + 1e-9)
