"""FreD: rank public sets by their distance from the private texts, by one release (Hou et al. 2023, arXiv 2302.09042).

1. *Public.* Embed every set; design the query from them and the terms of the guarantee alone (`design`).
2. *Private, then released.* The clients' moments, bounded, summed, noised and charged at once (`privacy.moments`).
3. *Post-processing.* Distances, intervals, probabilities, mixtures; for any number of sets, at no further cost.

This is our reconstruction, from the paper's abstract, of "a Frechet distance between embeddings of a public set
and federated private data by distributed private mean and covariance estimators". Ours differs from the obvious way in
that a client sends the mean of its texts' moments instead of the moments of their mean, that second moments
are asked for in fewer directions than the mean, and that the answer states what the noise leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pretext.clients.federation import Federation
from pretext.config.settings import Initial
from pretext.errors import UsageError
from pretext.fred.estimation import MomentNoise, Moments, estimate_moments
from pretext.fred.public_sets import ProjectedSet, PublicSet, Statistics, measure_public_set, mix_sets
from pretext.fred.query import FredQuery
from pretext.fred.ranking import estimate_distances, pool_sets
from pretext.run.folder import Run
from pretext.tables import Source, check_columns
from pretext.vectors import Embedder
from privacy import Account, Ledger, Release

MeasuredSets = Sequence[tuple[PublicSet, Statistics]]
"""Public sets with their statistics."""
CONFIDENCE = 0.9
CERTAIN_PROBABILITY = 0.95
"""From this probability on a set is called the nearest; of two equal ones, one is so called in 10 % of cases."""
_GREEDY_DRAWS = 50


@dataclass(frozen=True)
class RankedSet:
    """A public set in the ranking.

    Attributes:
        public_set: its name.
        distance: estimated squared Frechet distance; by noise possibly below 0.
        low, high: bounds on the squared distance with the ranking's confidence.
        best: probability that it is the nearest.
        texts: how many it holds.
        embedded: how many of them were embedded.
    """

    public_set: str
    distance: float
    low: float
    high: float
    best: float
    texts: int
    embedded: int


@dataclass(frozen=True)
class Ranking:
    """The public sets, nearest first, and what follows.

    Attributes:
        lines: one per set.
        mixture: names of the sets whose mixture in equal parts is the nearest, in the order they were taken.
        mixture_distances: the distance of the mixture after each of them.
        recommendation: a sentence, or two.
    """

    lines: list[RankedSet]
    mixture: list[str]
    mixture_distances: list[float]
    recommendation: str


def resolve_public_sets(initial: Initial) -> list[PublicSet]:
    """Resolve the configured public sets, and give each a name of its own.

    Raises:
        UsageError: there are fewer than two; one cannot be read, or lacks the text column.
    """
    if len(initial.public_sets) < 2:
        raise UsageError(
            f"FreD compares public sets and needs at least two; {len(initial.public_sets)} given. Give --public-set "
            "once for each (initial.public_sets)."
        )
    sources = [Source(location, initial.subset, initial.split) for location in initial.public_sets]
    names = [source.default_name for source in sources]
    for source in sources:
        check_columns(source, [initial.text_column])
    return [
        PublicSet(name if names.count(name) == 1 else source.location, source, initial.text_column)
        for name, source in zip(names, sources, strict=True)
    ]


def measure_sets(
    sets: Sequence[PublicSet], embed: Embedder, identity: str, max_texts: int | None, cache: Path
) -> MeasuredSets:
    """Measure every set as `measure_public_set` does. Raises UsageError also if two hold the same texts."""
    measured = [(public, measure_public_set(public, embed, identity, max_texts, cache)) for public in sets]
    by_digest: dict[str, PublicSet] = {}
    for public, statistics in measured:
        twin = by_digest.setdefault(statistics.digest, public)
        if twin is not public:
            raise UsageError(
                f"The public sets {twin.source.location} and {public.source.location} hold the same texts; leave one "
                "of them out."
            )
    return measured


def ask_clients(
    query: FredQuery, run: Run, ledger: Ledger, account: Account, label: str, federation: Federation
) -> Release:
    """Replay the release, or charge it to the dataset and draw it; a replay opens nothing private.

    Raises:
        BudgetExceeded: the dataset's budget does not hold it; nothing private was touched.
        RunFolderError: the folder went away while the clients answered; nothing was drawn.
    """
    stored_release = ledger.replay(account.name, label, query.subject)
    if stored_release is not None:
        return stored_release
    account.check(query.cost(account.relation), label)
    bounded = federation.sum_moments(query.moments)
    run.check_in_place()
    return ledger.release(account.name, label, query.subject, bounded, query.mechanism, query.relation)


def rank_sets(query: FredQuery, release: Release, measured: MeasuredSets, choose: int = 1) -> Ranking:
    """Rank public sets by a release, and find the `choose` of them whose mixture is nearest."""
    moments, noise = estimate_moments(query.moments, release.noisy, release.mechanism.standard_deviation, query.clients)
    names = [public.name for public, _ in measured]
    sets = [statistics.project(query.moments) for _, statistics in measured]
    estimate = estimate_distances(moments, noise, sets)
    intervals, best = estimate.interval(CONFIDENCE), estimate.best
    lines = [
        RankedSet(
            names[i],
            float(estimate.distance[i]),
            float(intervals[i, 0]),
            float(intervals[i, 1]),
            float(best[i]),
            measured[i][1].texts,
            int(measured[i][1].count.sum()),
        )
        for i in np.argsort(estimate.distance, kind="stable")
    ]
    mixture = choose_mixture(moments, noise, sets, choose)
    return Ranking(lines, [names[i] for i, _ in mixture], [distance for _, distance in mixture], recommend_sets(lines))


def choose_mixture(
    moments: Moments, noise: MomentNoise, sets: Sequence[ProjectedSet], choose: int
) -> list[tuple[int, float]]:
    """Take sets one by one so that the mixture of those taken, in equal parts, is nearest; return its distances too."""
    mixture: list[tuple[int, float]] = []
    prior = pool_sets(sets).covariance
    while len(mixture) < min(choose, len(sets)):
        taken = [i for i, _ in mixture]
        rest = [i for i in range(len(sets)) if i not in taken]
        mixtures = [mix_sets([sets[j] for j in [*taken, i]]) for i in rest]
        estimate = estimate_distances(moments, noise, mixtures, _GREEDY_DRAWS, prior=prior)
        nearest = int(np.argmin(estimate.distance))
        mixture.append((rest[nearest], float(estimate.distance[nearest])))
    return mixture


def recommend_sets(lines: Sequence[RankedSet]) -> str:
    """Say what the ranking shows, in a sentence or two; where it shows nothing, say so."""
    first = lines[0]
    if first.best >= CERTAIN_PROBABILITY:
        return (
            f"Prefinetune on {first.public_set}: it is the nearest with probability {_format_probability(first.best)}."
        )
    possible = [line for line in lines if line.best > 1 - CERTAIN_PROBABILITY]
    if len(possible) == len(lines) > 2:
        return (
            "This budget tells nothing: every set may be the nearest. A larger epsilon or more clients would help; "
            "until then choose by other knowledge."
        )
    names = " and ".join(f"{line.public_set} ({_format_probability(line.best)})" for line in possible)
    return (
        f"This budget does not tell {names} apart; the others are farther. Take any of these, or their mixture."
        if len(possible) < len(lines)
        else f"This budget does not tell {names} apart. Take either, or their mixture."
    )


def _format_probability(probability: float) -> str:
    """Never 100 %: a simulation of some hundred draws cannot tell."""
    return f"{min(round(probability * 100), 99)} %"
