"""Which moments to ask the clients for, chosen from public data and the terms of the guarantee alone.

More directions show more of the difference between sets of texts, and every one lets more noise in. The rule: take each
candidate, and all of them pooled, for the private set; give its moments the noise that the release will have; estimate
the distances of all candidates as the release will be used; and compare every gap between two of them with the true gap
in all d dimensions. The number of directions r and the weight of the mean are those with the least mean of

    E (gap estimated - gap true)^2 / (E (gap estimated - gap true)^2 + (gap true)^2),

which is the share of error in what one would conclude from a gap: 0 for none, 1 where noise or the directions left
out are all there is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretext.calibration import moments_multiplier
from pretext.config.settings import Config
from pretext.errors import UsageError
from pretext.fred.estimation import MomentNoise, Moments, estimate_covariance
from pretext.fred.frechet import covariance_root, squared_distances
from pretext.fred.public_sets import Statistics
from pretext.fred.query import Promise, Question
from pretext.vectors import Embedder
from privacy.moments import Floats, MomentQuery, moments_mechanism

RANKS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_MEAN_SHARES = (0.15, 0.35, 0.6)
EDGE = 0.5
_COUNT_SHARE = 0.05
_UNCLIPPED_SHARE = 0.99
_DRAWS = 12
_MAX_SETS = 8
_SEED = 20230218


@dataclass(frozen=True)
class Design:
    """A query, and what it promises; `score` is the share of error."""

    query: MomentQuery
    promise: Promise
    score: float


@dataclass(frozen=True)
class _Board:
    """Candidates' laws in the eigenbasis of their pool, and the stand-ins' true distances from them."""

    laws: list[Moments]
    standins: list[Moments]
    true_distances: Floats  # (stand-ins, k)


def design_query(sets: Sequence[Statistics], deviation: float, clients: float, *, count_clients: bool) -> Design:
    """The query with the least share of error.

    Args:
        sets: at least two.
        deviation: standard deviation of the noise on a sum of vectors of norm 1.
        clients: their public number, or a public estimate of it.
        count_clients: whether the clients are to be counted too, because their number is not public.
    """
    center, values, vectors = principal_axes(sets)
    board = _make_board(sets, center, vectors)
    count_weight = math.sqrt(_COUNT_SHARE) if count_clients else 0.0
    radius = _clipping_radius(sets, center, vectors)
    best: Design | None = None
    for rank, share in _query_sizes(len(values)):
        second_radius = _clipping_radius(sets, center, vectors[:, :rank])
        mean_weight = math.sqrt(share * (1 - count_weight**2))
        query = MomentQuery(center, vectors, rank, radius, second_radius, mean_weight, count_weight)
        noise = MomentNoise.of(query, deviation, clients)
        if rank and noise.edge(rank) > EDGE * values[rank - 1]:
            continue
        made = _score_query(query, board, noise, float(values[:rank].sum() / max(values.sum(), 1e-300)))
        if best is None or made.score < best.score:
            best = made
    assert best is not None
    return best


def _query_sizes(most: int) -> list[tuple[int, float]]:
    """Numbers of directions for second moments with shares of the mean, beginning with the mean alone."""
    return [(0, 1.0), *((rank, share) for rank in RANKS if rank <= most for share in _MEAN_SHARES)]


def principal_axes(sets: Sequence[Statistics]) -> tuple[Floats, Floats, Floats]:
    """Center, eigenvalues (descending) and eigenvectors of the candidates' pool, each candidate counting the same."""
    pool = _pool_moments([candidate.moments for candidate in sets])
    values, vectors = np.linalg.eigh(pool.covariance)
    vectors = vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    return pool.mean, np.maximum(values[::-1], 0.0), vectors * signs


def _pool_moments(laws: Sequence[Moments]) -> Moments:
    """The law of a draw from all of them, each counting the same."""
    return Moments(np.mean([law.mean for law in laws], axis=0), np.mean([law.second for law in laws], axis=0))


def _clipping_radius(sets: Sequence[Statistics], center: Floats, basis: Floats) -> float:
    """Within which 99 % of every candidate's rows lie when centered and projected."""
    lengths = [np.linalg.norm((candidate.sample - center) @ basis, axis=1) for candidate in sets]
    return max(float(max(np.quantile(each, _UNCLIPPED_SHARE) for each in lengths)), 1e-6)


def _make_board(sets: Sequence[Statistics], center: Floats, vectors: Floats) -> _Board:
    step = max(1, math.ceil(len(sets) / _MAX_SETS))
    laws = [_rotate_moments(candidate.moments, center, vectors) for candidate in sets[::step]]
    standins = [*laws, _pool_moments(laws)]
    halves = [covariance_root(law.covariance) for law in standins]
    true = [squared_distances(law, half, laws) for law, half in zip(standins, halves, strict=True)]
    return _Board(laws, standins, np.array(true))


def _rotate_moments(law: Moments, center: Floats, vectors: Floats) -> Moments:
    """A law's moments about `center`, in the coordinates of `vectors`."""
    mean = (law.mean - center) @ vectors
    return Moments(mean, vectors.T @ law.covariance @ vectors + np.outer(mean, mean))


def _score_query(query: MomentQuery, board: _Board, noise: MomentNoise, explained: float) -> Design:
    """A query with its promises and its score."""
    rng = np.random.default_rng(_SEED)
    laws = [_truncate_moments(law, query.rank) for law in board.laws]
    prior = _pool_moments(laws).covariance
    answers, truncated = [], []
    for standin in board.standins:
        law = _truncate_moments(standin, query.rank)
        drawn = noise.simulate(law, _DRAWS, rng)
        answers.append(squared_distances(drawn, covariance_root(estimate_covariance(drawn, noise, prior)), laws))
        truncated.append(squared_distances(law, covariance_root(law.covariance), laws))
    return _make_design(query, np.stack(answers), np.stack(truncated), board.true_distances, explained)


def _make_design(
    query: MomentQuery, answers: Floats, truncated: Floats, true_distances: Floats, explained: float
) -> Design:
    """From distances estimated (stand-ins, draws, k), noiseless, and in all dimensions (stand-ins, k)."""
    i, j = np.triu_indices(true_distances.shape[1], 1)
    bias = answers.mean(axis=1) - truncated
    # Biases are removed from an answer, so a gap is off by its spread and by what the other directions would show.
    spread = (answers[..., i] - answers[..., j]).var(axis=1, ddof=1)
    shown, gap = truncated[:, i] - truncated[:, j], true_distances[:, i] - true_distances[:, j]
    squared = spread + (shown - gap) ** 2
    right = np.sign(gap) * shown / np.sqrt(np.maximum(spread, 1e-300))
    chance = np.mean([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in right.ravel()])
    score = float(np.mean(squared / np.maximum(squared + gap**2, 1e-300)))
    promise = Promise(float(bias.mean()), float(np.sqrt(squared.mean())), float(chance), explained)
    return Design(query, promise, score)


def _truncate_moments(law: Moments, rank: int) -> Moments:
    """A law with its second moments in the first directions only."""
    return Moments(law.mean, law.second[:rank, :rank])


_PROBES = ("The weather was fine.", "int main(void) { return 0; }", "Wie geht es dir?", "lol ok, see you at 8")


def design_question(
    config: Config, sets: Sequence[Statistics], embed: Embedder, epsilon: float | None = None
) -> Question:
    """The question that the candidates and the terms of the guarantee lead to. Nothing private is touched.

    Args:
        config: the terms; `privacy.clients` must be stated.
        sets: at least two.
        embed: the embedder the candidates went through.
        epsilon: what the release may cost; default: all of the configured one.

    Raises:
        UsageError: no number of clients is stated.
    """
    privacy = config.privacy
    check_client_estimate(config)
    assert privacy.clients is not None
    multiplier = moments_multiplier(config.privacy, epsilon)
    deviation = moments_mechanism(multiplier, privacy.relation).standard_deviation
    chosen = design_query(sets, deviation, privacy.clients, count_clients=not privacy.clients_exact)
    return Question(
        chosen.query,
        multiplier,
        privacy.relation,
        privacy.clients if privacy.clients_exact else None,
        embedder_identity(config),
        embed(_PROBES),
        chosen.promise,
    )


def check_client_estimate(config: Config) -> None:
    """Raises UsageError if no number of clients is stated."""
    if config.privacy.clients is None:
        raise UsageError(
            "FreD needs a public estimate of the number of clients to choose what to ask them: give --clients "
            "(privacy.clients); its order of magnitude is enough."
        )


def embedder_identity(config: Config) -> str:
    """The embedder by name and by how much of a text it reads."""
    return f"{config.models.embedder}, {config.models.embedder_tokens} tokens"


def check_embedder(question: Question, config: Config, embed: Embedder) -> None:
    """Raises UsageError if the stored release was made with another embedder."""
    if question.embedder == embedder_identity(config):
        probes = embed(_PROBES)
        if probes.shape == question.probes.shape and (probes * question.probes).sum(axis=1).min() > 0.98:
            return
    raise UsageError(
        f"The stored release was made with the embedder {question.embedder}; now it is {embedder_identity(config)}, or "
        "that name stands for another model now. Distances between different embedders mean nothing: use the same "
        "embedder, or a new folder, which costs a new release."
    )
