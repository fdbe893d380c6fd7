"""FreD: which public set of texts is nearest to the private ones, from one release (Hou et al. 2023, arXiv 2302.09042).

1. *Public.* Embed every candidate; choose what to ask for from them and the guarantee alone (`design`).
2. *Private, then released.* The clients' moments, bounded, summed, noised and charged at once (`privacy.moments`).
3. *Post-processing.* Distances, intervals, probabilities, mixtures; for any number of candidates, at no further cost.

This is our reconstruction, from the paper's abstract, of "a Frechet distance between embeddings of a public set
and federated private data by distributed private mean and covariance estimators". Ours differs from the obvious way in
that a client sends the mean of its texts' moments instead of the moments of their mean, that second moments
are asked for in fewer directions than the mean, and that the answer carries what the noise leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pretext.clients.federation import Federation
from pretext.config.settings import Config
from pretext.errors import UsageError
from pretext.fred.design import embedder_identity
from pretext.fred.estimation import MomentNoise, Moments, estimate_moments
from pretext.fred.public_sets import ProjectedSet, PublicSet, Statistics, measure_public_set, mix_sets
from pretext.fred.query import Question
from pretext.fred.ranking import estimate_distances, pool_sets
from pretext.tables import Source, check_columns
from pretext.vectors import Embedder
from privacy import Account, Ledger, Release

MeasuredSets = Sequence[tuple[PublicSet, Statistics]]
"""Candidates with their statistics."""
CONFIDENCE = 0.9
CERTAIN_PROBABILITY = 0.95
"""From this probability on a candidate is called the nearest; of two equal ones, one is so called in 10 % of cases."""
_GREEDY_DRAWS = 50


@dataclass(frozen=True)
class RankedSet:
    """A candidate in the ranking; `low` and `high` bound the squared distance with the ranking's confidence."""

    public_set: str
    distance: float
    low: float
    high: float
    best: float
    texts: int
    embedded: int


@dataclass(frozen=True)
class Ranking:
    """The candidates, nearest first, and what follows.

    Attributes:
        lines: one per candidate.
        by_mean: names in the order of the distance of means alone, for comparison.
        mixture: the candidates whose mixture in equal parts is the nearest, in the order they were taken.
        mixture_distances: the distance of the mixture after each of them.
        recommendation: a sentence, or two.
    """

    lines: list[RankedSet]
    by_mean: list[str]
    mixture: list[str]
    mixture_distances: list[float]
    recommendation: str


def resolve_public_sets(config: Config) -> list[PublicSet]:
    """The configured candidates, with names of their own.

    Raises:
        UsageError: there are fewer than two, one cannot be read, or lacks the text column.
    """
    initial = config.initial
    if len(initial.public_sets) < 2:
        raise UsageError(
            f"FreD compares public sets; {len(initial.public_sets)} given, at least two are needed: give --public-set "
            "once for each (initial.public_sets)."
        )
    sources = [Source(location) for location in initial.public_sets]
    names = [source.default_name for source in sources]
    for source in sources:
        check_columns(source, [initial.text_column])
    return [
        PublicSet(name if names.count(name) == 1 else source.location, source, initial.text_column)
        for name, source in zip(names, sources, strict=True)
    ]


def measure_sets(config: Config, sets: Sequence[PublicSet], embed: Embedder, cache: Path) -> MeasuredSets:
    """The candidates' statistics, embedded now or out of the cache. Raises UsageError if two hold the same texts."""
    most = config.initial.public_set_texts
    found = [(public, measure_public_set(public, embed, embedder_identity(config), most, cache)) for public in sets]
    seen: dict[str, PublicSet] = {}
    for public, each in found:
        if each.digest in seen:
            raise UsageError(
                f"The candidates {seen[each.digest].source.location} and {public.source.location} hold the same texts; "
                "leave one of them out."
            )
        seen[each.digest] = public
    return found


def ask_clients(
    question: Question, ledger: Ledger, account: Account, label: str, federation: Callable[[], Federation]
) -> Release:
    """The release, charged to the dataset and drawn, or replayed; nothing private is opened for a replay.

    Raises:
        BudgetExceeded: the dataset's budget does not hold it; nothing private was touched.
    """
    stored = ledger.replay(account.name, label, question.subject)
    if stored is not None:
        return stored
    account.check(question.cost(account.relation))
    bounded = federation().sum_moments(question.query)
    return ledger.release(account.name, label, question.subject, bounded, question.mechanism, question.relation)


def rank_sets(question: Question, release: Release, measured: MeasuredSets, choose: int = 1) -> Ranking:
    """Rank candidates by a release, and find the `choose` of them whose mixture is nearest."""
    moments, noise = estimate_moments(
        question.query, release.noisy, release.mechanism.standard_deviation, question.clients
    )
    names = [public.name for public, _ in measured]
    sets = [each.project(question.query) for _, each in measured]
    estimated = estimate_distances(moments, noise, sets)
    intervals, best = estimated.interval(CONFIDENCE), estimated.best
    order = np.argsort(estimated.distance, kind="stable")
    lines = [
        RankedSet(
            names[i],
            float(estimated.distance[i]),
            float(intervals[i, 0]),
            float(intervals[i, 1]),
            float(best[i]),
            measured[i][1].texts,
            int(measured[i][1].count.sum()),
        )
        for i in order
    ]
    by_mean = np.argsort([np.square(moments.mean - each.moments.mean).sum() for each in sets], kind="stable")
    mixture = choose_mixture(moments, noise, sets, choose)
    return Ranking(
        lines,
        [names[i] for i in by_mean],
        [names[i] for i, _ in mixture],
        [distance for _, distance in mixture],
        recommendation(lines),
    )


def choose_mixture(
    moments: Moments, noise: MomentNoise, sets: Sequence[ProjectedSet], choose: int
) -> list[tuple[int, float]]:
    """Candidates taken one by one so that the mixture of all taken, in equal parts, is nearest; with its distances."""
    taken: list[tuple[int, float]] = []
    prior = pool_sets(sets).covariance
    while len(taken) < min(choose, len(sets)):
        held = [sets[i] for i, _ in taken]
        left = [i for i in range(len(sets)) if i not in {j for j, _ in taken}]
        tried = estimate_distances(
            moments, noise, [mix_sets([*held, sets[i]]) for i in left], _GREEDY_DRAWS, prior=prior
        )
        nearest = int(np.argmin(tried.distance))
        taken.append((left[nearest], float(tried.distance[nearest])))
    return taken


def recommendation(lines: Sequence[RankedSet]) -> str:
    """What the ranking says, in a sentence or two; that it says nothing, where it does not."""
    first = lines[0]
    if first.best >= CERTAIN_PROBABILITY:
        return (
            f"Prefinetune on {first.public_set}: it is the nearest with probability {_format_probability(first.best)}."
        )
    open_still = [line for line in lines if line.best > 1 - CERTAIN_PROBABILITY]
    if len(open_still) == len(lines) > 2:
        return (
            "This budget tells nothing: every candidate may be the nearest. A larger epsilon or more clients would "
            "help; until then choose by other knowledge."
        )
    names = " and ".join(f"{line.public_set} ({_format_probability(line.best)})" for line in open_still)
    return (
        f"This budget does not tell {names} apart; the others are farther. Take any of these, or their mixture."
        if len(open_still) < len(lines)
        else f"This budget does not tell {names} apart. Take either, or their mixture."
    )


def _format_probability(probability: float) -> str:
    """Never 100 %: a simulation of some hundred draws cannot tell."""
    return f"{min(round(probability * 100), 99)} %"
