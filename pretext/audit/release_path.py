"""Attacks on the release path: the clients' vote, the clipping, the noise, the ledger. No text and no model.

`Clients.vote`, `bounded_sum` and `Ledger.release` are the program's own, with a ledger file in a scratch folder;
every game is a data set of its own in it, charged with all rounds. The candidates stand at right angles, so that a
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

from pretext.audit.finding import Finding, by_errors, by_guesses
from pretext.clients.voting import Ballot, Clients, VoteRule
from pretext.config.settings import Config
from pretext.errors import PretextError
from pretext.jobs.plan import plan
from pretext.vectors import unit_rows
from privacy import Bounded, Budget, DiscreteGaussian, Ledger, Relation, Unit, compose, epsilon

Floats = NDArray[np.float64]
_CANARIES = 128  # of one release
_COMPARED = 64  # coordinates of two processes


@dataclass(frozen=True)
class ReleasePath:
    """The release path as a configuration sets it, with a ledger for the games."""

    ledger: Ledger
    mechanism: DiscreteGaussian
    relation: Relation
    norm_squared: Fraction
    normalise: bool
    rounds: int
    budget: Budget

    @classmethod
    def of(cls, config: Config, ledger: Ledger) -> ReleasePath:
        """With the noise that the program itself calibrates."""
        privacy, planned = config.privacy, plan(config)
        budget = Budget(privacy.epsilon or planned.epsilon, privacy.delta)
        return cls(
            ledger,
            planned.mechanism,
            privacy.relation,
            privacy.norm_squared,
            privacy.normalise_votes,
            privacy.rounds,
            budget,
        )

    @property
    def texts(self) -> int:
        """Texts of an attacking client: four times what the bound lets count."""
        return min(4 * math.ceil(math.sqrt(self.norm_squared)), 4096)

    def vote(self, clients: Clients, candidates: int) -> Bounded:
        """The sum of the clients' votes over candidates at right angles."""
        ballot = Ballot(np.eye(candidates, dtype=np.float32), np.zeros(candidates, np.int64))
        return clients.vote(ballot, self.rule(1))

    def rule(self, nearest: int) -> VoteRule:
        """How clients vote, as configured but for `nearest`."""
        return VoteRule(nearest, self.norm_squared, self.normalise)

    def play(self, clients: Clients, candidates: int, asks: int = 1) -> tuple[Floats, float]:
        """What a run's worth of releases from these clients tells: the mean over the rounds, and what is claimed.

        Args:
            asks: how often each label is asked for; only the first may cost or tell anything.
        """
        return self.release(lambda: self.vote(clients, candidates), asks)

    def release(self, vote: Callable[[], Bounded], asks: int = 1) -> tuple[Floats, float]:
        """The same for whatever `vote` gives in each round."""
        name, told = secrets.token_hex(8), []
        self.ledger.register(name, name, Unit("client"), self.relation, self.budget)
        for round_number in range(self.rounds):
            label = f"votes/{round_number}"
            for _ in range(asks):
                release = self.ledger.release(name, label, "audit", vote(), self.mechanism, self.relation)
                told.append(release.noisy)
        return np.mean(told, axis=0), self.ledger.account(name).spent_epsilon


def audit_releases(config: Config, ledger: Ledger, games: int, advance: Callable[[int], None]) -> Iterator[Finding]:
    """All attacks of this level; each plays about so many `games`, and `advance` hears of each that is done."""
    path = ReleasePath.of(config, ledger)
    delta = config.privacy.delta
    yield neighbours(path, delta)
    if hasattr(os, "fork"):
        yield two_processes(path)
    for attack, asks, rehearsed in (
        ("one candidate for each client", 1, False),
        ("every release asked for again", 5, False),
        ("the noise of a rehearsal taken off", 1, True),
    ):
        scores, present, claim = _many_canaries(path, games, asks, rehearsed, advance)
        yield by_errors(attack, scores[~present], scores[present], claim, delta)
        if asks == 1 and not rehearsed:
            yield by_guesses(f"{attack}, no assumption", scores, present, claim, delta)
    without, with_, claim = _one_against_a_crowd(path, games, advance)
    yield by_errors("one client against the crowd", without, with_, claim, delta)


def games_in_all(config: Config, games: int) -> int:
    """What `advance` will have heard in the end."""
    return 3 * _CANARIES * _releases_of(games) + 2 * _crowds_of(games, config.privacy.rounds)


def _releases_of(games: int) -> int:
    return max(2, games // _CANARIES)


def _crowds_of(games: int, rounds: int) -> int:
    """These games take a data set each, so there are fewer of them."""
    return max(8, games // (8 * rounds))


def two_processes(path: ReleasePath) -> Finding:
    """The noise that two copies of this process draw: were it equal, as from a generator that lives in the program and
    was seeded once, whoever has a copy could take it off. Two equal coordinates have a chance below 1e-12."""
    votes = path.vote(_nobody(_COMPARED), _COMPARED)
    told = [_in_a_copy(path, votes) for _ in range(2)]
    known = int((told[0] == told[1]).sum()) > 1
    bound = math.inf if known else 0.0
    return Finding(
        "the noise of two processes", "compared, exact", _COMPARED, bound, bound, path.release(lambda: votes)[1]
    )


def _in_a_copy(path: ReleasePath, votes: Bounded) -> Floats:
    """What a copy of this process is told. It does nothing but release: threads and GPUs are not copied with it."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of copies of processes with threads
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, path.release(lambda: votes)[0].tobytes())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123  # a descriptor, not a path
        told = pipe.read()
    os.waitpid(child, 0)
    if len(told) != 8 * _COMPARED:
        raise PretextError("A copy of this process could not release anything; see whether there is room on the disk.")
    return np.frombuffer(told)


def _nobody(candidates: int) -> Clients:
    return Clients(np.zeros((0, candidates), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))


def _many_canaries(
    path: ReleasePath, games: int, asks: int, rehearsed: bool, advance: Callable[[int], None]
) -> tuple[Floats, NDArray[np.bool_], float]:
    """Scores and coins of many canaries, each with candidates of its own, and the claim for what was released.

    Coordinates get independent noise, so that the games of one release are independent of each other; were they not,
    that would be a defect too, and `epsilon_in_one_run` does not rest on it.
    """
    scores, coins, claim = [], [], 0.0
    for _ in range(_releases_of(games)):
        present = np.random.default_rng().random(_CANARIES) < 0.5
        told, claim = path.play(_canaries(path, present), 2 * _CANARIES, asks)
        if rehearsed:
            told = told - path.play(_nobody(2 * _CANARIES), 2 * _CANARIES, asks)[0]
        pairs = told.reshape(_CANARIES, 2)
        scores.append(pairs[:, 0] if path.relation is Relation.ADD_REMOVE else pairs[:, 0] - pairs[:, 1])
        coins.append(present)
        advance(_CANARIES)
    return np.concatenate(scores), np.concatenate(coins), claim


def _canaries(path: ReleasePath, present: NDArray[np.bool_]) -> Clients:
    """Those who are there vote for the first of their two candidates; the others, if they must be somebody, for the
    second."""
    chosen = 2 * np.arange(len(present)) + ~present
    there = present | (path.relation is Relation.REPLACE_ONE)
    return _clients([(int(where), path.texts) for where in chosen[there]], 2 * len(present))


def _clients(votes: list[tuple[int, int]], candidates: int) -> Clients:
    """One client for each (candidate, number of texts)."""
    where = np.repeat([candidate for candidate, _ in votes], [texts for _, texts in votes])
    owner = np.repeat(np.arange(len(votes)), [texts for _, texts in votes])
    return Clients(np.eye(candidates, dtype=np.float32)[where], owner, np.zeros(len(where), np.int64))


def _one_against_a_crowd(path: ReleasePath, games: int, advance: Callable[[int], None]) -> tuple[Floats, Floats, float]:
    """A client with far more texts than all others together comes, or is exchanged for another such one.

    The score is the release's inner product with the difference that the client makes, the best test there is.
    """
    crowd, many = (0, path.texts), 50 * path.texts
    worlds = [[crowd], [crowd, (1, many)]]
    if path.relation is Relation.REPLACE_ONE:
        worlds[0] = [crowd, (2, many)]
    clients = [_clients(world, 4) for world in worlds]
    one, other = (path.vote(each, 4).value.astype(np.float64) for each in clients)
    direction = (other - one) / max(float(np.linalg.norm(other - one)), 1.0)
    scores, claim = [], 0.0
    for each in clients:
        of_world = []
        for _ in range(_crowds_of(games, path.rounds)):
            told, claim = path.play(each, 4)
            of_world.append(float(told @ direction))
            advance(1)
        scores.append(np.array(of_world))
    return scores[0], scores[1], claim


def neighbours(path: ReleasePath, delta: float) -> Finding:
    """Pairs of neighbours compared before the noise, in exact integers: what the worst of them costs.

    This is a calculation, not a measurement: it takes the noise as the accountant does.
    """
    pairs = list(_pairs(path))
    claim = max(_epsilon_of(path, x.sensitivity_squared(path.relation), x.dimension, delta) for x, _ in pairs)
    apart = [sum((int(a) - int(b)) ** 2 for a, b in zip(x.value, y.value, strict=True)) for x, y in pairs]
    worst = max(_epsilon_of(path, squared, x.dimension, delta) for squared, (x, _) in zip(apart, pairs, strict=True))
    return Finding("neighbours before the noise", "calculated, exact", len(pairs), worst, worst, claim)


def _epsilon_of(path: ReleasePath, squared: int, dimension: int, delta: float) -> float:
    return epsilon(compose([path.mechanism.cost(dimension, squared)] * path.rounds), delta)


def _pairs(path: ReleasePath) -> Iterator[tuple[Bounded, Bounded]]:
    """Neighbouring sums of votes: the crowd, and random ones among candidates that are equally near."""
    crowd, many = (0, path.texts), 50 * path.texts
    other = [(2, many)] if path.relation is Relation.REPLACE_ONE else []
    yield path.vote(_clients([crowd, (1, many)], 4), 4), path.vote(_clients([crowd, *other], 4), 4)
    rng = np.random.default_rng(0)
    for clients in (2, 20, 334, 1025):
        points = np.tile(unit_rows(rng.standard_normal((128, 384)).astype(np.float32)), (2, 1))[rng.permutation(256)]
        rows = unit_rows(rng.standard_normal((clients, 384)).astype(np.float32))
        for nearest in (1, 3):
            yield _with_and_without(path, Ballot(points, np.zeros(256, np.int64)), rows, nearest)


def _with_and_without(
    path: ReleasePath, ballot: Ballot, rows: NDArray[np.float32], nearest: int
) -> tuple[Bounded, Bounded]:
    """Votes with the last client, and without it or with another in its place."""
    owner, label = np.arange(len(rows)), np.zeros(len(rows), np.int64)
    rule = path.rule(nearest)
    with_ = Clients(rows, owner, label).vote(ballot, rule)
    if path.relation is Relation.REPLACE_ONE:
        return with_, Clients(np.vstack([rows[:-1], -rows[-1:]]), owner, label).vote(ballot, rule)
    return with_, Clients(rows[:-1], owner[:-1], label[:-1]).vote(ballot, rule)
