"""Attacks on the clients' side: from raw rows through the program's own door to the sum that is released.

Two neighbors are read, capped, labeled, embedded and asked exactly as in a run (`Parts.of`), and their sums compared in
exact integers. Whatever looks at the rows of several clients at once, on any step of the way, moves the vectors of
clients who stayed; then the sums are farther apart than the noise was made for. The questions are votes, votes with
labels, a profile with labels, and the moments of FreD; a release of moments is attacked by a game too.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pretext.audit.canary_texts import HashEmbedder, edit_sample, invent_nonces, invent_sentences
from pretext.audit.finding import Finding, finding_from_errors
from pretext.calibration import Calibration, moments_multiplier
from pretext.clients.voting import Ballot, Clients
from pretext.config.resolve import resolve
from pretext.config.settings import Config, Privacy
from pretext.jobs.parts import Parts
from pretext.jobs.run import vote_rule
from pretext.models.engines.scripted import ScriptedEngine
from pretext.profile.query import ProfileQuery
from pretext.profile.vocabulary import build_vocabulary
from privacy import Bounded, Budget, DiscreteGaussian, Ledger, Relation, Unit, compose, epsilon
from privacy.moments import MomentQuery, moments_mechanism

Rows: TypeAlias = list[dict[str, str]]
_LABELS = ("house", "street", "office")
_CLIENTS, _MOST_TEXTS, _DIMENSIONS = 20, 6, 32
_CANARIES = 64
_LARGEST_EPSILON = 20.0  # where only the noise is configured


@dataclass(frozen=True)
class _Question:
    """A question to the clients.

    Attributes:
        name: in the table of findings.
        config: reads the rows.
        ask: asks the clients behind a configuration.
        mechanism: the noise of the answer.
        releases: how many of them make up the claim.
    """

    name: str
    config: Config
    ask: Callable[[Parts], Bounded]
    mechanism: DiscreteGaussian
    releases: int


def compare_raw_rows(privacy: Privacy, mechanism: DiscreteGaussian) -> Iterator[Finding]:
    """Compare neighbors from raw rows on, for each kind of question; a calculation, not a measurement.

    Args:
        privacy: the guarantee.
        mechanism: the noise of its rounds.
    """
    rows = invent_rows(np.random.default_rng(2))
    for question in _make_questions(privacy, mechanism):
        whole = _ask(question, rows)
        distances = [_squared_distance(whole, _ask(question, rest)) for rest in make_neighbors(rows, privacy.relation)]
        claim, worst = (
            epsilon(compose([question.mechanism.cost(whole.dimension, squared)] * question.releases), privacy.delta)
            for squared in (whole.sensitivity_squared(privacy.relation), max(distances))
        )
        yield Finding(question.name, "calculated, exact", len(distances), worst, worst, claim)


def attack_moments(privacy: Privacy, ledger: Ledger, games: int, advance: Callable[[int], None]) -> Finding:
    """Release moments with canaries, each with a direction and a fair coin of its own; play about `games` games.

    A canary's vector is as long as the bound lets it be. Under replace-one an absent one holds the opposite text.
    """
    directions = np.eye(_CANARIES)
    query = MomentQuery(np.zeros(_CANARIES), directions, 0, 0.5, 0.5, 1.0, 0.0)
    mechanism = moments_mechanism(moments_multiplier(privacy), privacy.relation)
    budget = Budget(privacy.epsilon or _LARGEST_EPSILON, privacy.delta)
    scores, coins, claim = [], [], 0.0
    for _ in range(count_moment_games(games) // _CANARIES):
        present, name = np.random.default_rng().random(_CANARIES) < 0.5, secrets.token_hex(8)
        absent = -directions[~present] if privacy.relation is Relation.REPLACE_ONE else directions[:0]
        bounded = _sum_single_texts(query, np.concatenate([directions[present], absent]))
        ledger.register(name, name, Unit("client"), privacy.relation, budget)
        release = ledger.release(name, "fred", "audit", bounded, mechanism, privacy.relation)
        scores.append(release.noisy)
        coins.append(present)
        claim = ledger.account(name).spent_epsilon
        advance(_CANARIES)
    score, coin = np.concatenate(scores), np.concatenate(coins)
    return finding_from_errors("one direction for each client, FreD", score[~coin], score[coin], claim, privacy.delta)


def count_moment_games(games: int) -> int:
    """Return how many games `attack_moments` plays."""
    return _CANARIES * max(4, games // _CANARIES)


def invent_rows(rng: np.random.Generator) -> Rows:
    """Invent clients with one text or several, of one label or all, short and long, copied from others, mixed."""
    texts = [*invent_sentences(60, rng), *invent_nonces(20, rng)]
    rows: Rows = []
    for client in range(_CLIENTS):
        name = f"{rng.bytes(2).hex()} {client}"
        for _ in range(int(rng.integers(1, _MOST_TEXTS + 1))):
            text = " ".join([str(rng.choice(texts))] * int(rng.choice([1, 1, 4, 25])))
            rows.append({"client": name, "text": text, "label": str(rng.choice(_LABELS))})
    return [rows[i] for i in rng.permutation(len(rows))]


def make_neighbors(rows: Rows, relation: Relation) -> Iterator[Rows]:
    """Yield the rows without each client, or with another one in its place that holds every kind of text."""
    substitute = [
        {"client": "substitute", "text": row["text"], "label": label} for row in rows[:4] for label in _LABELS
    ]
    for client in dict.fromkeys(row["client"] for row in rows):
        rest = [row for row in rows if row["client"] != client]
        yield rest if relation is Relation.ADD_REMOVE else [*substitute, *rest]


def _make_questions(privacy: Privacy, mechanism: DiscreteGaussian) -> Iterator[_Question]:
    rng = np.random.default_rng(3)
    texts = invent_sentences(48, rng)
    points = HashEmbedder(_DIMENSIONS)(texts)
    basis = np.linalg.qr(rng.standard_normal((_DIMENSIONS, _DIMENSIONS)))[0]
    query = MomentQuery(np.zeros(_DIMENSIONS), basis[:, :12], 6, 0.1, 0.1, 0.6, 0.2)
    moments = moments_mechanism(moments_multiplier(privacy), privacy.relation)

    def vote(labels: NDArray[np.int64]) -> Callable[[Parts], Bounded]:
        return lambda parts: parts.federation.vote(Ballot(points, labels), vote_rule(privacy, 2))

    plain, labeled = _read_as(privacy), _read_as(privacy, label_column="label", labels=_LABELS)
    labels = np.arange(len(points)) % len(_LABELS)
    yield _Question("raw rows, votes", plain, vote(np.zeros(len(points), np.int64)), mechanism, privacy.rounds)
    yield _Question("raw rows, votes with labels", labeled, vote(labels), mechanism, privacy.rounds)
    yield _make_profile_question(labeled, texts, points)
    yield _Question("raw rows, FreD", plain, lambda parts: parts.federation.sum_moments(query), moments, 1)


def _make_profile_question(labeled: Config, texts: list[str], centers: NDArray[np.float32]) -> _Question:
    """Ask for a profile at the guarantee of a configuration, with labels."""
    privacy = labeled.privacy.model_copy(update={"release": "profile"})
    config = labeled.model_copy(update={"privacy": privacy})
    vocabulary, most = build_vocabulary(texts, ["house", "table"], 200), privacy.max_texts_per_client
    share = config.profile.feature_share
    query = ProfileQuery.weigh(vocabulary, centers, len(_LABELS), 1.0, most, share)  # so all clients reach the bound
    mechanism = Calibration.of(config).mechanism
    return _Question(
        "raw rows, profile", config, lambda parts: parts.federation.profile(query), mechanism, privacy.rounds
    )


def _read_as(privacy: Privacy, **data: Any) -> Config:
    """Make a configuration that reads the invented rows under a guarantee."""
    stated = {name: value for name, value in privacy.model_dump(mode="json").items() if value is not None}
    stated = {**stated, "max_texts_per_client": max(privacy.max_texts_per_client, _MOST_TEXTS)}
    return resolve(
        settings={"privacy": stated, "data": {"client_column": "client", **data}, "initial": {"prompts": ["x"]}}
    )


def _ask(question: _Question, rows: Rows) -> Bounded:
    return question.ask(Parts.of(question.config, rows, (ScriptedEngine(edit_sample), HashEmbedder(_DIMENSIONS))))


def _sum_single_texts(query: MomentQuery, rows: NDArray[np.float64]) -> Bounded:
    """Sum the moments of clients with one text each."""
    clients = Clients(rows.astype(np.float32), np.arange(len(rows)), np.zeros(len(rows), np.int64))
    return clients.sum_moments(query)


def _squared_distance(left: Bounded, right: Bounded) -> int:
    return sum((int(a) - int(b)) ** 2 for a, b in zip(left.value, right.value, strict=True))
