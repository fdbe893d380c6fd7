"""FreD: which public set of texts is nearest to the private ones, from one release (Hou et al. 2023, arXiv 2302.09042).

1. *Public.* Embed every candidate; choose what to ask for from them and the guarantee alone (`query_design`).
2. *Private, then released.* The clients' moments, bounded, summed, noised and charged at once (`privacy.moments`).
3. *Post-processing.* Distances, intervals, probabilities, mixtures; for any number of candidates, at no further cost.

The paper's body was not at hand; this is our reconstruction of "a Frechet distance between embeddings of a public set
and federated private data by distributed private mean and covariance estimators". Ours differs from the obvious way in
that a client sends the mean of its texts' moments instead of the moments of their mean, that second moments
are asked for in fewer directions than the mean, and that the answer carries what the noise leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pretext.errors import UsageError
from pretext.federation import Federation
from pretext.public_sets import ProjectedSet, PublicSet, Statistics, mixed
from pretext.question import Question
from pretext.ranking import estimate, pooled
from privacy import Account, Ledger, Release
from privacy.moments import MomentNoise, Moments, released_moments

CONFIDENCE = 0.9
CERTAIN = 0.95
"""From this probability on a candidate is called the nearest."""
_GREEDY_DRAWS = 50


@dataclass(frozen=True)
class Line:
    """A candidate in the ranking; `low` and `high` bound the squared distance with the ranking's confidence."""

    candidate: str
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

    lines: list[Line]
    by_mean: list[str]
    mixture: list[str]
    mixture_distances: list[float]
    recommendation: str


def ask(
    question: Question, ledger: Ledger, account: Account, label: str, federation: Callable[[], Federation]
) -> Release:
    """The release, charged to the data set and drawn, or replayed; nothing private is opened for a replay.

    Raises:
        BudgetExceeded: the data set's budget does not hold it; nothing private was touched.
    """
    stored = ledger.replay(account.name, label, question.subject)
    if stored is not None:
        return stored
    account.check(question.cost(account.relation))
    bounded = federation().moments(question.query)
    return ledger.release(account.name, label, question.subject, bounded, question.mechanism, question.relation)


def rank(question: Question, release: Release, named: Sequence[tuple[str, Statistics]], choose: int = 1) -> Ranking:
    """Rank candidates by a release, and find the `choose` of them whose mixture is nearest."""
    moments, noise = released_moments(
        question.query, release.noisy, release.mechanism.standard_deviation, question.clients
    )
    names = [name for name, _ in named]
    sets = [statistics.seen_by(question.query) for _, statistics in named]
    found = estimate(moments, noise, sets)
    intervals, best = found.interval(CONFIDENCE), found.best
    order = np.argsort(found.distance, kind="stable")
    lines = [
        Line(
            names[i],
            float(found.distance[i]),
            float(intervals[i, 0]),
            float(intervals[i, 1]),
            float(best[i]),
            named[i][1].texts,
            int(named[i][1].count.sum()),
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
    prior = pooled(sets).covariance
    while len(taken) < min(choose, len(sets)):
        held = [sets[i] for i, _ in taken]
        left = [i for i in range(len(sets)) if i not in {j for j, _ in taken}]
        tried = estimate(moments, noise, [mixed([*held, sets[i]]) for i in left], _GREEDY_DRAWS, prior=prior)
        nearest = int(np.argmin(tried.distance))
        taken.append((left[nearest], float(tried.distance[nearest])))
    return taken


def recommendation(lines: Sequence[Line]) -> str:
    """What the ranking says, in a sentence or two; that it says nothing, where it does not."""
    first = lines[0]
    if first.best >= CERTAIN:
        return f"Prefinetune on {first.candidate}: it is the nearest with probability {_percent(first.best)}."
    open_still = [line for line in lines if line.best > 1 - CERTAIN]
    if len(open_still) == len(lines) > 2:
        return (
            "This budget tells nothing: every candidate may be the nearest. A larger epsilon or more clients would "
            "help; until then choose by other knowledge."
        )
    names = " and ".join(f"{line.candidate} ({_percent(line.best)})" for line in open_still)
    return (
        f"This budget does not tell {names} apart; the others are farther. Take any of these, or their mixture."
        if len(open_still) < len(lines)
        else f"This budget does not tell {names} apart. Take either, or their mixture."
    )


def _percent(probability: float) -> str:
    """Rounded down, and never 100 %: a simulation of some hundred draws cannot tell."""
    return f"{min(int(probability * 100), 99)} %"


def check_candidates(named: Sequence[tuple[PublicSet, Statistics]]) -> None:
    """Raises UsageError if two candidates hold the same texts."""
    seen: dict[str, PublicSet] = {}
    for public, statistics in named:
        if statistics.digest in seen:
            raise UsageError(
                f"The candidates {seen[statistics.digest].source.location} and {public.source.location} hold the same "
                "texts; leave one of them out."
            )
        seen[statistics.digest] = public
