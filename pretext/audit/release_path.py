"""Attacks on the release path: the clients' vote, the clipping, the noise, the ledger. No text and no model.

`Clients.vote`, `bounded_sum` and `Ledger.release` are the program's own, on a ledger in a scratch folder. Every game
registers a dataset of its own and charges it for all rounds. The candidates stand at right angles, so that a client's
votes fall where the attacker wants them. The attacked clients are the worst possible ones: all their texts, more than
the bound lets count, are nearest to one candidate, and (replace-one) those of the client's substitute to another.
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
from pretext.config.settings import Privacy
from pretext.errors import PretextError
from pretext.jobs.plan import Plan
from pretext.vectors import normalize_rows
from privacy import Bounded, Budget, DiscreteGaussian, Ledger, Relation, Unit, compose, epsilon

Floats = NDArray[np.float64]
_CANARIES_PER_RELEASE = 128
_COMPARED_COORDINATES = 64  # of the noise of two processes


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
    def of(cls, privacy: Privacy, plan: Plan, ledger: Ledger) -> ReleasePath:
        """Take the noise that the program itself calibrates (`pretext.jobs.plan.make_plan`)."""
        return cls(
            ledger,
            plan.mechanism,
            privacy.relation,
            privacy.norm_squared,
            privacy.normalize_votes,
            privacy.rounds,
            Budget(privacy.epsilon or plan.epsilon, privacy.delta),
        )

    @property
    def texts_per_attacker(self) -> int:
        """How many texts an attacking client holds: four times what the bound lets count."""
        return min(4 * math.ceil(math.sqrt(self.norm_squared)), 4096)

    def vote(self, clients: Clients, candidates: int) -> Bounded:
        """Sum the clients' votes for candidates at right angles."""
        ballot = Ballot(np.eye(candidates, dtype=np.float32), np.zeros(candidates, np.int64))
        return clients.vote(ballot, self.vote_rule(1))

    def vote_rule(self, nearest: int) -> VoteRule:
        """Return the configured rule of voting, but for `nearest`."""
        return VoteRule(nearest, self.norm_squared, self.normalize)

    def play_game(self, clients: Clients, candidates: int, asks_per_label: int = 1) -> tuple[Floats, float]:
        """Release a run's worth of rounds from these clients.

        Args:
            clients: who votes.
            candidates: for which they vote.
            asks_per_label: how often each release is asked for; only the first time may cost or tell anything.

        Returns:
            the noisy votes, shape (candidates,), averaged over all answers, and the epsilon that the ledger claims.
        """
        return self.release_rounds(lambda: self.vote(clients, candidates), asks_per_label)

    def release_rounds(self, vote: Callable[[], Bounded], asks_per_label: int = 1) -> tuple[Floats, float]:
        """Do the same for the votes that `vote` returns in each round."""
        name, answers = secrets.token_hex(8), []
        self.ledger.register(name, name, Unit("client"), self.relation, self.budget)
        for round_number in range(self.rounds):
            label = f"votes/{round_number}"
            for _ in range(asks_per_label):
                release = self.ledger.release(name, label, "audit", vote(), self.mechanism, self.relation)
                answers.append(release.noisy)
        return np.mean(answers, axis=0), self.ledger.account(name).spent_epsilon


def attack_releases(path: ReleasePath, games: int, advance: Callable[[int], None]) -> Iterator[Finding]:
    """Make all attacks on the release path; each plays about `games` games and reports them to `advance`."""
    delta = path.budget.delta
    yield compare_neighbors(path)
    if hasattr(os, "fork"):
        yield compare_processes(path)
    for attack, asks_per_label, subtract_rehearsal in (
        ("one candidate for each client", 1, False),
        ("every release asked for again", 5, False),
        ("the noise of a rehearsal taken off", 1, True),
    ):
        scores, present, claim = _score_canaries(path, games, asks_per_label, subtract_rehearsal, advance)
        yield finding_from_errors(attack, scores[~present], scores[present], claim, delta)
        if asks_per_label == 1 and not subtract_rehearsal:
            yield finding_from_guesses(f"{attack}, no assumption", scores, present, claim, delta)
    without, with_, claim = _score_crowd(path, games, advance)
    yield finding_from_errors("one client against the crowd", without, with_, claim, delta)


def count_games(games: int, rounds: int) -> int:
    """Return how many games `attack_releases` reports in all."""
    return 3 * _CANARIES_PER_RELEASE * _count_releases(games) + 2 * _count_crowds(games, rounds)


def _count_releases(games: int) -> int:
    return max(2, games // _CANARIES_PER_RELEASE)


def _count_crowds(games: int, rounds: int) -> int:
    """Fewer games: each of these takes a dataset of its own."""
    return max(8, games // (8 * rounds))


def compare_processes(path: ReleasePath) -> Finding:
    """Compare the noise that two copies of this process draw.

    Equal noise, as from a generator that lives in the program and is seeded once, could be subtracted by whoever has a
    copy. Two equal coordinates have a chance below 1e-12.
    """
    votes = path.vote(make_no_clients(_COMPARED_COORDINATES), _COMPARED_COORDINATES)
    first, second = _release_in_fork(path, votes), _release_in_fork(path, votes)
    bound = math.inf if int((first == second).sum()) > 1 else 0.0
    return Finding(
        "the noise of two processes",
        "compared, exact",
        _COMPARED_COORDINATES,
        bound,
        bound,
        path.release_rounds(lambda: votes)[1],
    )


def _release_in_fork(path: ReleasePath, votes: Bounded) -> Floats:
    """Release votes in a copy of this process, which does nothing else: threads and GPUs are not copied with it."""
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
        noisy = pipe.read()
    os.waitpid(child, 0)
    if len(noisy) != 8 * _COMPARED_COORDINATES:
        raise PretextError("A copy of this process could not release anything; see whether there is room on the disk.")
    return np.frombuffer(noisy)


def make_no_clients(candidates: int) -> Clients:
    """Make a federation of nobody."""
    return Clients(np.zeros((0, candidates), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))


def _score_canaries(
    path: ReleasePath, games: int, asks_per_label: int, subtract_rehearsal: bool, advance: Callable[[int], None]
) -> tuple[Floats, NDArray[np.bool_], float]:
    """Return scores and coins of many canaries, each with candidates of its own, and the claim for what was released.

    Coordinates get independent noise, so the games of one release are independent of each other; if they were not, that
    would be a defect too, and `epsilon_in_one_run` does not rest on it.
    """
    candidates = 2 * _CANARIES_PER_RELEASE
    scores, coins, claim = [], [], 0.0
    for _ in range(_count_releases(games)):
        present = np.random.default_rng().random(_CANARIES_PER_RELEASE) < 0.5
        noisy, claim = path.play_game(_make_canary_clients(path, present), candidates, asks_per_label)
        if subtract_rehearsal:
            rehearsal, _ = path.play_game(make_no_clients(candidates), candidates, asks_per_label)
            noisy = noisy - rehearsal
        pairs = noisy.reshape(_CANARIES_PER_RELEASE, 2)
        scores.append(pairs[:, 0] if path.relation is Relation.ADD_REMOVE else pairs[:, 0] - pairs[:, 1])
        coins.append(present)
        advance(_CANARIES_PER_RELEASE)
    return np.concatenate(scores), np.concatenate(coins), claim


def _make_canary_clients(path: ReleasePath, present: NDArray[np.bool_]) -> Clients:
    """Let present canaries vote for the first of their two candidates, and substitutes (replace-one) for the second."""
    favorites = 2 * np.arange(len(present)) + ~present
    voting = present | (path.relation is Relation.REPLACE_ONE)
    votes = [(int(candidate), path.texts_per_attacker) for candidate in favorites[voting]]
    return make_voting_clients(votes, 2 * len(present))


def make_voting_clients(votes: list[tuple[int, int]], candidates: int) -> Clients:
    """Make one client for each (candidate, number of texts)."""
    candidate_of_text = np.repeat([candidate for candidate, _ in votes], [texts for _, texts in votes])
    owner = np.repeat(np.arange(len(votes)), [texts for _, texts in votes])
    rows = np.eye(candidates, dtype=np.float32)[candidate_of_text]
    return Clients(rows, owner, np.zeros(len(rows), np.int64))


def _score_crowd(path: ReleasePath, games: int, advance: Callable[[int], None]) -> tuple[Floats, Floats, float]:
    """Let a client with far more texts than all others together join, or be exchanged for another such one.

    The score is the release's inner product with the difference that the client makes, the best possible test.
    """
    crowd, many = (0, path.texts_per_attacker), 50 * path.texts_per_attacker
    worlds = [[crowd], [crowd, (1, many)]]
    if path.relation is Relation.REPLACE_ONE:
        worlds[0] = [crowd, (2, many)]
    clients = [make_voting_clients(world, 4) for world in worlds]
    without, with_ = (path.vote(world, 4).value.astype(np.float64) for world in clients)
    direction = (with_ - without) / max(float(np.linalg.norm(with_ - without)), 1.0)
    scores, claim = np.zeros((2, _count_crowds(games, path.rounds))), 0.0
    for world, game in np.ndindex(scores.shape):
        noisy, claim = path.play_game(clients[world], 4)
        scores[world, game] = noisy @ direction
        advance(1)
    return scores[0], scores[1], claim


def compare_neighbors(path: ReleasePath) -> Finding:
    """Compare pairs of neighbors before the noise, in exact integers, and compute what the worst of them costs.

    This is a calculation, not a measurement: it takes the noise as the accountant does.
    """
    pairs = list(_make_neighboring_pairs(path))
    claim = max(_epsilon_at_distance(path, x.sensitivity_squared(path.relation), x.dimension) for x, _ in pairs)
    distances = [sum((int(a) - int(b)) ** 2 for a, b in zip(x.value, y.value, strict=True)) for x, y in pairs]
    worst = max(
        _epsilon_at_distance(path, squared, x.dimension) for squared, (x, _) in zip(distances, pairs, strict=True)
    )
    return Finding("neighbors before the noise", "calculated, exact", len(pairs), worst, worst, claim)


def _epsilon_at_distance(path: ReleasePath, squared: int, dimension: int) -> float:
    return epsilon(compose([path.mechanism.cost(dimension, squared)] * path.rounds), path.budget.delta)


def _make_neighboring_pairs(path: ReleasePath) -> Iterator[tuple[Bounded, Bounded]]:
    """Make neighboring sums of votes: the crowd, and random ones among candidates that are equally near."""
    crowd, many = (0, path.texts_per_attacker), 50 * path.texts_per_attacker
    substitute = [(2, many)] if path.relation is Relation.REPLACE_ONE else []
    yield (
        path.vote(make_voting_clients([crowd, (1, many)], 4), 4),
        path.vote(make_voting_clients([crowd, *substitute], 4), 4),
    )
    rng = np.random.default_rng(0)
    for clients in (2, 20, 334, 1025):
        distinct = normalize_rows(rng.standard_normal((128, 384)).astype(np.float32))
        points = np.tile(distinct, (2, 1))[rng.permutation(256)]
        rows = normalize_rows(rng.standard_normal((clients, 384)).astype(np.float32))
        for nearest in (1, 3):
            yield _vote_with_and_without(path, Ballot(points, np.zeros(256, np.int64)), rows, nearest)


def _vote_with_and_without(
    path: ReleasePath, ballot: Ballot, rows: NDArray[np.float32], nearest: int
) -> tuple[Bounded, Bounded]:
    """Sum the votes with the last client, and without it or with another in its place."""
    owner, label = np.arange(len(rows)), np.zeros(len(rows), np.int64)
    rule = path.vote_rule(nearest)
    with_ = Clients(rows, owner, label).vote(ballot, rule)
    if path.relation is Relation.REPLACE_ONE:
        return with_, Clients(np.vstack([rows[:-1], -rows[-1:]]), owner, label).vote(ballot, rule)
    return with_, Clients(rows[:-1], owner[:-1], label[:-1]).vote(ballot, rule)
