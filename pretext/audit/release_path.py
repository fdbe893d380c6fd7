"""Attacks on the release path: the clients' vote, the clipping, the noise, the ledger. No text and no model.

`Clients.vote`, `bounded_sum` and `Ledger.release` are the program's own, with a ledger file in a scratch folder;
every game is a dataset of its own in it, charged with all rounds. The candidates stand at right angles, so that a
client's votes fall where the attacker wants them, and the attacked clients are the worst there can be: all their texts,
more than the bound lets count, are nearest to one candidate, and (replace-one) the other client's to another one.
"""

from __future__ import annotations

import math
import os
import secrets
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pretext.audit.finding import Finding, finding_from_errors, finding_from_guesses
from pretext.clients.voting import Ballot, Clients, VoteRule
from pretext.config.settings import Config
from pretext.errors import PretextError
from pretext.jobs.plan import make_plan
from pretext.vectors import normalize_rows
from privacy import Bounded, Budget, DiscreteGaussian, Ledger, Relation, Unit, compose, epsilon

Floats = NDArray[np.float64]
_CANARIES_PER_RELEASE = 128  # of one release
_COMPARED_COORDINATES = 64  # coordinates of two processes


@dataclass(frozen=True)
class ReleasePath:
    """The release path as a configuration sets it, with a ledger for the games."""

    ledger: Ledger
    mechanism: DiscreteGaussian
    relation: Relation
    norm_squared: Fraction
    normalize: bool
    rounds: int
    budget: Budget

    @classmethod
    def of(cls, config: Config, ledger: Ledger) -> ReleasePath:
        """With the noise that the program itself calibrates."""
        privacy, planned = config.privacy, make_plan(config)
        budget = Budget(privacy.epsilon or planned.epsilon, privacy.delta)
        return cls(
            ledger,
            planned.mechanism,
            privacy.relation,
            privacy.norm_squared,
            privacy.normalize_votes,
            privacy.rounds,
            budget,
        )

    @property
    def texts_per_attacker(self) -> int:
        """Texts of an attacking client: four times what the bound lets count."""
        return min(4 * math.ceil(math.sqrt(self.norm_squared)), 4096)

    def vote(self, clients: Clients, candidates: int) -> Bounded:
        """The sum of the clients' votes over candidates at right angles."""
        ballot = Ballot(np.eye(candidates, dtype=np.float32), np.zeros(candidates, np.int64))
        return clients.vote(ballot, self.vote_rule(1))

    def vote_rule(self, nearest: int) -> VoteRule:
        """How clients vote, as configured but for `nearest`."""
        return VoteRule(nearest, self.norm_squared, self.normalize)

    def play_game(self, clients: Clients, candidates: int, asks_per_label: int = 1) -> tuple[Floats, float]:
        """What a run's worth of releases from these clients tells: the mean over the rounds, and what is claimed.

        Args:
            asks_per_label: how often each label is asked for; only the first may cost or tell anything.
        """
        return self.release_rounds(lambda: self.vote(clients, candidates), asks_per_label)

    def release_rounds(self, vote: Callable[[], Bounded], asks_per_label: int = 1) -> tuple[Floats, float]:
        """The same for whatever `vote` gives in each round."""
        name, told = secrets.token_hex(8), []
        self.ledger.register(name, name, Unit("client"), self.relation, self.budget)
        for round_number in range(self.rounds):
            label = f"votes/{round_number}"
            for _ in range(asks_per_label):
                release = self.ledger.release(name, label, "audit", vote(), self.mechanism, self.relation)
                told.append(release.noisy)
        return np.mean(told, axis=0), self.ledger.account(name).spent_epsilon


def attack_releases(config: Config, ledger: Ledger, games: int, advance: Callable[[int], None]) -> Iterator[Finding]:
    """All attacks of this level; each plays about so many `games`, and `advance` hears of each that is done."""
    path = ReleasePath.of(config, ledger)
    delta = config.privacy.delta
    yield compare_neighbors(path, delta)
    if hasattr(os, "fork"):
        yield compare_processes(path)
    for attack, asks, rehearsed in (
        ("one candidate for each client", 1, False),
        ("every release asked for again", 5, False),
        ("the noise of a rehearsal taken off", 1, True),
    ):
        scores, present, claim = _score_canaries(path, games, asks, rehearsed, advance)
        yield finding_from_errors(attack, scores[~present], scores[present], claim, delta)
        if asks == 1 and not rehearsed:
            yield finding_from_guesses(f"{attack}, no assumption", scores, present, claim, delta)
    without, with_, claim = _score_crowd(path, games, advance)
    yield finding_from_errors("one client against the crowd", without, with_, claim, delta)


def count_games(config: Config, games: int) -> int:
    """What `advance` will have heard in the end."""
    return 3 * _CANARIES_PER_RELEASE * _count_releases(games) + 2 * _count_crowds(games, config.privacy.rounds)


def _count_releases(games: int) -> int:
    return max(2, games // _CANARIES_PER_RELEASE)


def _count_crowds(games: int, rounds: int) -> int:
    """These games take a dataset each, so there are fewer of them."""
    return max(8, games // (8 * rounds))


def compare_processes(path: ReleasePath) -> Finding:
    """The noise that two copies of this process draw: were it equal, as from a generator that lives in the program and
    was seeded once, whoever has a copy could take it off. Two equal coordinates have a chance below 1e-12."""
    votes = path.vote(_make_no_clients(_COMPARED_COORDINATES), _COMPARED_COORDINATES)
    told = [_release_in_fork(path, votes) for _ in range(2)]
    known = int((told[0] == told[1]).sum()) > 1
    bound = math.inf if known else 0.0
    return Finding(
        "the noise of two processes",
        "compared, exact",
        _COMPARED_COORDINATES,
        bound,
        bound,
        path.release_rounds(lambda: votes)[1],
    )


def _release_in_fork(path: ReleasePath, votes: Bounded) -> Floats:
    """What a copy of this process is told. It does nothing but release: threads and GPUs are not copied with it."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of copies of processes with threads
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, path.release_rounds(lambda: votes)[0].tobytes())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123  # a descriptor, not a path
        told = pipe.read()
    os.waitpid(child, 0)
    if len(told) != 8 * _COMPARED_COORDINATES:
        raise PretextError("A copy of this process could not release anything; see whether there is room on the disk.")
    return np.frombuffer(told)


def _make_no_clients(candidates: int) -> Clients:
    return Clients(np.zeros((0, candidates), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))


def _score_canaries(
    path: ReleasePath, games: int, asks_per_label: int, subtract_rehearsal: bool, advance: Callable[[int], None]
) -> tuple[Floats, NDArray[np.bool_], float]:
    """Scores and coins of many canaries, each with candidates of its own, and the claim for what was released.

    Coordinates get independent noise, so that the games of one release are independent of each other; were they not,
    that would be a defect too, and `epsilon_in_one_run` does not rest on it.
    """
    scores, coins, claim = [], [], 0.0
    for _ in range(_count_releases(games)):
        present = np.random.default_rng().random(_CANARIES_PER_RELEASE) < 0.5
        told, claim = path.play_game(_make_canary_clients(path, present), 2 * _CANARIES_PER_RELEASE, asks_per_label)
        if subtract_rehearsal:
            told = (
                told
                - path.play_game(
                    _make_no_clients(2 * _CANARIES_PER_RELEASE), 2 * _CANARIES_PER_RELEASE, asks_per_label
                )[0]
            )
        pairs = told.reshape(_CANARIES_PER_RELEASE, 2)
        scores.append(pairs[:, 0] if path.relation is Relation.ADD_REMOVE else pairs[:, 0] - pairs[:, 1])
        coins.append(present)
        advance(_CANARIES_PER_RELEASE)
    return np.concatenate(scores), np.concatenate(coins), claim


def _make_canary_clients(path: ReleasePath, present: NDArray[np.bool_]) -> Clients:
    """Those who are there vote for the first of their two candidates; the others, if they must be somebody, for the
    second."""
    chosen = 2 * np.arange(len(present)) + ~present
    there = present | (path.relation is Relation.REPLACE_ONE)
    return _make_voting_clients([(int(where), path.texts_per_attacker) for where in chosen[there]], 2 * len(present))


def _make_voting_clients(votes: list[tuple[int, int]], candidates: int) -> Clients:
    """One client for each (candidate, number of texts)."""
    where = np.repeat([candidate for candidate, _ in votes], [texts for _, texts in votes])
    owner = np.repeat(np.arange(len(votes)), [texts for _, texts in votes])
    return Clients(np.eye(candidates, dtype=np.float32)[where], owner, np.zeros(len(where), np.int64))


def _score_crowd(path: ReleasePath, games: int, advance: Callable[[int], None]) -> tuple[Floats, Floats, float]:
    """A client with far more texts than all others together comes, or is exchanged for another such one.

    The score is the release's inner product with the difference that the client makes, the best test there is.
    """
    crowd, many = (0, path.texts_per_attacker), 50 * path.texts_per_attacker
    worlds = [[crowd], [crowd, (1, many)]]
    if path.relation is Relation.REPLACE_ONE:
        worlds[0] = [crowd, (2, many)]
    clients = [_make_voting_clients(world, 4) for world in worlds]
    one, other = (path.vote(each, 4).value.astype(np.float64) for each in clients)
    direction = (other - one) / max(float(np.linalg.norm(other - one)), 1.0)
    scores, claim = [], 0.0
    for each in clients:
        of_world = []
        for _ in range(_count_crowds(games, path.rounds)):
            told, claim = path.play_game(each, 4)
            of_world.append(float(told @ direction))
            advance(1)
        scores.append(np.array(of_world))
    return scores[0], scores[1], claim


def compare_neighbors(path: ReleasePath, delta: float) -> Finding:
    """Pairs of neighbors compared before the noise, in exact integers: what the worst of them costs.

    This is a calculation, not a measurement: it takes the noise as the accountant does.
    """
    pairs = list(_make_neighboring_pairs(path))
    claim = max(_epsilon_at_distance(path, x.sensitivity_squared(path.relation), x.dimension, delta) for x, _ in pairs)
    apart = [sum((int(a) - int(b)) ** 2 for a, b in zip(x.value, y.value, strict=True)) for x, y in pairs]
    worst = max(
        _epsilon_at_distance(path, squared, x.dimension, delta) for squared, (x, _) in zip(apart, pairs, strict=True)
    )
    return Finding("neighbors before the noise", "calculated, exact", len(pairs), worst, worst, claim)


def _epsilon_at_distance(path: ReleasePath, squared: int, dimension: int, delta: float) -> float:
    return epsilon(compose([path.mechanism.cost(dimension, squared)] * path.rounds), delta)


def _make_neighboring_pairs(path: ReleasePath) -> Iterator[tuple[Bounded, Bounded]]:
    """Neighboring sums of votes: the crowd, and random ones among candidates that are equally near."""
    crowd, many = (0, path.texts_per_attacker), 50 * path.texts_per_attacker
    other = [(2, many)] if path.relation is Relation.REPLACE_ONE else []
    yield (
        path.vote(_make_voting_clients([crowd, (1, many)], 4), 4),
        path.vote(_make_voting_clients([crowd, *other], 4), 4),
    )
    rng = np.random.default_rng(0)
    for clients in (2, 20, 334, 1025):
        points = np.tile(normalize_rows(rng.standard_normal((128, 384)).astype(np.float32)), (2, 1))[
            rng.permutation(256)
        ]
        rows = normalize_rows(rng.standard_normal((clients, 384)).astype(np.float32))
        for nearest in (1, 3):
            yield _vote_with_and_without(path, Ballot(points, np.zeros(256, np.int64)), rows, nearest)


def _vote_with_and_without(
    path: ReleasePath, ballot: Ballot, rows: NDArray[np.float32], nearest: int
) -> tuple[Bounded, Bounded]:
    """Votes with the last client, and without it or with another in its place."""
    owner, label = np.arange(len(rows)), np.zeros(len(rows), np.int64)
    rule = path.vote_rule(nearest)
    with_ = Clients(rows, owner, label).vote(ballot, rule)
    if path.relation is Relation.REPLACE_ONE:
        return with_, Clients(np.vstack([rows[:-1], -rows[-1:]]), owner, label).vote(ballot, rule)
    return with_, Clients(rows[:-1], owner[:-1], label[:-1]).vote(ballot, rule)
