"""Design the query: which moments to ask the clients for, from public data and the terms of the guarantee alone.

More directions show more of the difference between sets of texts, and every one lets more noise in. The rule: take each
public set, and all of them pooled, for the private texts; give its moments the noise that the release will have;
estimate the distances of all sets as the release will be used; and compare every gap between two of them with the true
gap in all d dimensions. The number of directions r and the weight of the mean are those with the least mean of

    E (gap estimated - gap true)^2 / (E (gap estimated - gap true)^2 + (gap true)^2),

which is the share of error in what one would conclude from a gap: 0 for none, 1 where noise or the directions left
out are all there is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretext.config.settings import Data, Models, Privacy
from pretext.errors import UsageError
from pretext.fred.estimation import MomentNoise, Moments, estimate_covariance
from pretext.fred.frechet import covariance_root, squared_distances
from pretext.fred.public_sets import Statistics
from pretext.fred.query import FredQuery, Promise
from pretext.vectors import Embedder
from privacy.moments import Floats, MomentQuery, moments_mechanism

RANKS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of directions that are tried for second moments, besides 0."""
_MEAN_SHARES = (0.15, 0.35, 0.6)
_EDGE = 0.5
"""Noise in second moments may have eigenvalues up to this share of the last direction's variance."""
_COUNT_SHARE = 0.05
_UNCLIPPED_SHARE = 0.99
_DRAWS = 12
_MAX_SETS = 8
_SEED = 20230218
_PROBES = ("The weather was fine.", "int main(void) { return 0; }", "Wie geht es dir?", "lol ok, see you at 8")


@dataclass(frozen=True)
class Design:
    """A query, and what it promises; `score` is the share of error."""

    query: MomentQuery
    promise: Promise
    score: float


@dataclass(frozen=True)
class _Rehearsal:
    """What every query is tried on: the sets' laws in the eigenbasis of their pool, stand-ins for the private texts,
    and the true distances between the two."""

    laws: list[Moments]
    standins: list[Moments]
    true_distances: Floats  # (stand-ins, k)


def design_fred_query(
    sets: Sequence[Statistics], data: Data, privacy: Privacy, noise_multiplier: float, models: Models, embed: Embedder
) -> FredQuery:
    """Design the query that the public sets and the terms of the guarantee lead to. Nothing private is touched.

    Args:
        sets: at least two.
        data: which columns hold the private texts.
        privacy: the terms; `privacy.clients` must be stated.
        noise_multiplier: noise / sensitivity of the release.
        models: names the embedder.
        embed: the embedder that the sets went through.

    Raises:
        UsageError: no number of clients is stated.
    """
    clients = require_client_estimate(privacy)
    deviation = moments_mechanism(noise_multiplier, privacy.relation).standard_deviation
    design = design_query(sets, deviation, clients, count_clients=not privacy.clients_exact)
    return FredQuery(
        design.query,
        noise_multiplier,
        privacy.relation,
        clients if privacy.clients_exact else None,
        embedder_identity(models),
        f"at most {privacy.max_texts_per_client} of column {data.text_column!r}, clients by {data.client_column!r}",
        embed(_PROBES),
        design.promise,
    )


def require_client_estimate(privacy: Privacy) -> int:
    """Return the stated number of clients. Raises UsageError if there is none."""
    if privacy.clients is None:
        raise UsageError(
            "FreD needs a public estimate of the number of clients to choose what to ask them: give --clients "
            "(privacy.clients); its order of magnitude is enough."
        )
    return privacy.clients


def embedder_identity(models: Models) -> str:
    """Name the embedder, and how much of a text it reads."""
    return f"{models.embedder}, {models.embedder_tokens} tokens"


def check_embedder(query: FredQuery, models: Models, embed: Embedder) -> None:
    """Raise UsageError if the stored release was made with another embedder."""
    if query.embedder == embedder_identity(models):
        probes = embed(_PROBES)
        if probes.shape == query.probes.shape and (probes * query.probes).sum(axis=1).min() > 0.98:
            return
    raise UsageError(
        f"The stored release was made with the embedder {query.embedder}; now it is {embedder_identity(models)}, or "
        "that name stands for another model now. Distances between different embedders mean nothing: use the same "
        "embedder, or a new folder, which costs a new release."
    )


def design_query(sets: Sequence[Statistics], deviation: float, clients: float, *, count_clients: bool) -> Design:
    """Find the query with the least share of error.

    Args:
        sets: at least two.
        deviation: standard deviation of the noise on a sum of vectors of norm 1.
        clients: their public number, or a public estimate of it.
        count_clients: whether the release counts the clients too, because their number is not public.
    """
    center, values, vectors = principal_axes(sets)
    rehearsal = _prepare_rehearsal(sets, center, vectors)
    count_weight = math.sqrt(_COUNT_SHARE) if count_clients else 0.0
    radius = _clipping_radius(sets, center, vectors)
    ranks_and_shares = [(rank, share) for rank in RANKS if rank <= len(values) for share in _MEAN_SHARES]
    best: Design | None = None
    for rank, share in [(0, 1.0), *ranks_and_shares]:  # the mean alone comes first
        second_radius = _clipping_radius(sets, center, vectors[:, :rank])
        mean_weight = math.sqrt(share * (1 - count_weight**2))
        query = MomentQuery(center, vectors, rank, radius, second_radius, mean_weight, count_weight)
        noise = MomentNoise.of(query, deviation, clients)
        if rank and noise.edge(rank) > _EDGE * values[rank - 1]:
            continue
        design = _score_query(query, rehearsal, noise, float(values[:rank].sum() / max(values.sum(), 1e-300)))
        if best is None or design.score < best.score:
            best = design
    assert best is not None
    return best


def principal_axes(sets: Sequence[Statistics]) -> tuple[Floats, Floats, Floats]:
    """Return center, eigenvalues (descending) and eigenvectors of the sets' pool, in which each counts the same."""
    pool = _pool_moments([statistics.moments for statistics in sets])
    values, vectors = np.linalg.eigh(pool.covariance)
    vectors = vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    return pool.mean, np.maximum(values[::-1], 0.0), vectors * signs


def _pool_moments(laws: Sequence[Moments]) -> Moments:
    """The law of a draw from all of them, each counting the same."""
    return Moments(np.mean([law.mean for law in laws], axis=0), np.mean([law.second for law in laws], axis=0))


def _clipping_radius(sets: Sequence[Statistics], center: Floats, basis: Floats) -> float:
    """The radius within which 99 % of every set's rows lie when they are centered and projected."""
    lengths = [np.linalg.norm((statistics.sample - center) @ basis, axis=1) for statistics in sets]
    return max(float(max(np.quantile(of_set, _UNCLIPPED_SHARE) for of_set in lengths)), 1e-6)


def _prepare_rehearsal(sets: Sequence[Statistics], center: Floats, vectors: Floats) -> _Rehearsal:
    step = max(1, math.ceil(len(sets) / _MAX_SETS))
    laws = [_rotate_moments(statistics.moments, center, vectors) for statistics in sets[::step]]
    standins = [*laws, _pool_moments(laws)]
    roots = [covariance_root(law.covariance) for law in standins]
    distances = [squared_distances(law, root, laws) for law, root in zip(standins, roots, strict=True)]
    return _Rehearsal(laws, standins, np.array(distances))


def _rotate_moments(law: Moments, center: Floats, vectors: Floats) -> Moments:
    """A law's moments about `center`, in the coordinates of `vectors`."""
    mean = (law.mean - center) @ vectors
    return Moments(mean, vectors.T @ law.covariance @ vectors + np.outer(mean, mean))


def _score_query(query: MomentQuery, rehearsal: _Rehearsal, noise: MomentNoise, explained: float) -> Design:
    """Simulate the query's releases on all stand-ins."""
    rng = np.random.default_rng(_SEED)
    laws = [_truncate_moments(law, query.rank) for law in rehearsal.laws]
    prior = _pool_moments(laws).covariance
    estimated, truncated = [], []
    for standin in rehearsal.standins:
        law = _truncate_moments(standin, query.rank)
        noisy = noise.simulate(law, _DRAWS, rng)
        estimated.append(squared_distances(noisy, covariance_root(estimate_covariance(noisy, noise, prior)), laws))
        truncated.append(squared_distances(law, covariance_root(law.covariance), laws))
    return _make_design(query, np.stack(estimated), np.stack(truncated), rehearsal.true_distances, explained)


def _make_design(
    query: MomentQuery, estimated: Floats, truncated: Floats, true_distances: Floats, explained: float
) -> Design:
    """From distances estimated (stand-ins, draws, k), noiseless, and in all dimensions (stand-ins, k)."""
    i, j = np.triu_indices(true_distances.shape[1], 1)
    bias = estimated.mean(axis=1) - truncated
    # Biases are removed from an estimate, so a gap is off by its spread and by what the other directions would show.
    spread = (estimated[..., i] - estimated[..., j]).var(axis=1, ddof=1)
    shown_gap, gap = truncated[:, i] - truncated[:, j], true_distances[:, i] - true_distances[:, j]
    squared_error = spread + (shown_gap - gap) ** 2
    margin = np.sign(gap) * shown_gap / np.sqrt(np.maximum(spread, 1e-300))
    chance = np.mean([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in margin.ravel()])
    score = float(np.mean(squared_error / np.maximum(squared_error + gap**2, 1e-300)))
    promise = Promise(float(bias.mean()), float(np.sqrt(squared_error.mean())), float(chance), explained)
    return Design(query, promise, score)


def _truncate_moments(law: Moments, rank: int) -> Moments:
    """A law with its second moments in the first directions only."""
    return Moments(law.mean, law.second[:rank, :rank])
