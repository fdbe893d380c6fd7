"""An attack on noise that depends on other noise: of another coordinate, or of another round of the same dataset.

Such noise may have the right law everywhere and still give everything away, since what predicts it can be subtracted.
The attack first watches releases without any client, and learns for each coordinate which other value of a release, or
of the next round's, tells most of it. Then it plays: a canary votes for its coordinate in the first round alone, and
the attack subtracts its prediction before it guesses. Where noise is independent, there is nothing to subtract.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretext.audit.finding import Finding, finding_from_errors
from pretext.audit.release_path import ReleasePath, make_no_clients, make_voting_clients
from privacy import Bounded, Relation, Unit

Floats = NDArray[np.float64]
_CANARIES = 32  # coordinate 0 to 31 is a canary's; the others, but for the last, never hold a vote
_COORDINATES = 64
_REHEARSALS = 64
_CHANCE = 1e-6  # that a prediction is learned where there is none; it would only weaken the attack


@dataclass(frozen=True)
class _Prediction:
    """How the noise of each canary's coordinate follows from another value.

    Attributes:
        helper: shape (canaries,), which value predicts it.
        factor: shape (canaries,), how it does; 0 where none does.
        rest: shape (canaries,), the standard deviation of what remains.
    """

    helper: NDArray[np.int64]
    factor: Floats
    rest: Floats

    def score(self, values: Floats) -> Floats:
        """Score the canaries by what a prediction leaves of their coordinates."""
        return (values[:_CANARIES] - self.factor * values[self.helper]) / self.rest


def attack_joint_noise(path: ReleasePath, games: int, advance: Callable[[int], None]) -> Finding:
    """Play about `games` games, a client in each, and report them to `advance`."""
    nobody = path.vote(make_no_clients(_COORDINATES), _COORDINATES)
    rounds = [nobody] * min(path.rounds, 2)
    prediction = _learn_prediction(np.array([_release_apart(path, rounds)[0] for _ in range(_REHEARSALS)]))
    scores, coins, claim = [], [], 0.0
    for _ in range(count_releases(games)):
        present = np.random.default_rng().random(_CANARIES) < 0.5
        values, claim = _release_apart(path, [_vote(path, present), *rounds[1:]])
        scores.append(prediction.score(values))
        coins.append(present)
        advance(_CANARIES)
    score, coin = np.concatenate(scores), np.concatenate(coins)
    return finding_from_errors("noise predicted from other noise", score[~coin], score[coin], claim, path.budget.delta)


def count_releases(games: int) -> int:
    """Return how many releases make up so many games."""
    return max(4, games // _CANARIES)


def count_games(games: int) -> int:
    """Return how many games `attack_joint_noise` reports."""
    return _CANARIES * count_releases(games)


def _vote(path: ReleasePath, present: NDArray[np.bool_]) -> Bounded:
    """Sum the votes of the canaries that are present; substitutes (replace-one) vote for the last coordinate."""
    votes = [(int(canary), path.texts_per_attacker) for canary in np.flatnonzero(present)]
    if path.relation is Relation.REPLACE_ONE:
        votes += [(_COORDINATES - 1, path.texts_per_attacker)] * int((~present).sum())
    return path.vote(make_voting_clients(votes, _COORDINATES), _COORDINATES)


def _release_apart(path: ReleasePath, rounds: Sequence[Bounded]) -> tuple[Floats, float]:
    """Release the rounds of a new dataset.

    Returns:
        all values one after another, in standard deviations of the noise, and the epsilon claimed for the first round,
        which alone holds votes.
    """
    name, values, claim = secrets.token_hex(8), [], 0.0
    path.ledger.register(name, name, Unit("client"), path.relation, path.budget)
    for number, bounded in enumerate(rounds):
        release = path.ledger.release(name, f"votes/{number}", "audit", bounded, path.mechanism, path.relation)
        values.append(release.noisy / path.mechanism.standard_deviation)
        claim = claim or path.ledger.account(name).spent_epsilon
    return np.concatenate(values), claim


def _learn_prediction(noise: Floats) -> _Prediction:
    """Learn from the noise of rehearsals, shape (rehearsals, values)."""
    from scipy import stats

    squares = np.square(noise).sum(axis=0)
    products = noise.T @ noise
    correlation = products / np.sqrt(np.maximum(np.outer(squares, squares), 1e-300))
    usable = [value for value in range(_CANARIES, noise.shape[1]) if value != _COORDINATES - 1]
    among = np.abs(correlation[:_CANARIES, usable])
    helper = np.array(usable)[among.argmax(axis=1)]
    largest = among.max(axis=1)
    # The squared correlation of independent Gaussian vectors is Beta distributed.
    chance = stats.beta.sf(np.minimum(largest**2, 1.0), 0.5, (len(noise) - 1) / 2) * len(usable)
    canaries = np.arange(_CANARIES)
    factor = np.where(chance < _CHANCE, products[canaries, helper] / np.maximum(squares[helper], 1e-300), 0.0)
    rest = np.sqrt(np.square(noise[:, canaries] - factor * noise[:, helper]).mean(axis=0))
    return _Prediction(helper, factor, np.where(factor == 0, 1.0, np.maximum(rest, 1e-9)))
