"""From a released profile to a writer of texts: weigh the pool, adapt the generator to it, and decide. Post-processing.

The weighed pool is what the program knows of the clients' texts. A generator that is adapted to draws from it writes
texts of that kind; where it cannot be adapted, it is asked as before, or guided by sentence starts. Each of these
writers is judged by a sample of its texts: how near to the profile are those of them that would be accepted? That costs
nothing, and it keeps a writer that does harm out of the result: another one than the prompts alone must be nearer by
more than the noise explains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretext.evolution.weighing import Target, weigh_texts
from pretext.profile.fit import Fit, measure_fit
from pretext.run.records import Candidate
from pretext.run.writers import Acceptance
from pretext.vectors import Embedder

WRITTEN_PER_TEXT = 2
"""Texts that a writer writes for each that is accepted, on average. More fit better, and cost more to write."""


def acceptance_probabilities(
    acceptance: Acceptance, target: Target, texts: Sequence[str], embed: Embedder
) -> NDArray[np.float64]:
    """Compute the probability with which each text is accepted, shape (len(texts),).

    Args:
        acceptance: of a label.
        target: the one that its multipliers were found for.
        texts: of the label.
        embed: places them among the clusters.
    """
    multipliers = np.zeros(len(target.mean))
    multipliers[acceptance.coordinates] = acceptance.multipliers
    exponents = target.matrix(texts, embed(texts)) @ multipliers
    return np.asarray(np.exp(np.minimum(exponents - acceptance.log_level, 0.0)), dtype=np.float64)


@dataclass(frozen=True)
class Judgment:
    """A writer's sample, judged.

    Attributes:
        acceptances: of each label.
        fit: of the accepted texts, over all labels.
    """

    acceptances: list[Acceptance]
    fit: Fit


def judge_writer(targets: Sequence[Target], sample: Sequence[Candidate], embed: Embedder, box: float) -> Judgment:
    """Find under which acceptance a writer's texts agree with the targets, and how well.

    Args:
        targets: of each label.
        sample: what the writer wrote, of every label that has texts.
        embed: places texts among the clusters.
        box: see `settings.Profile`.
    """
    acceptances, residuals, fitted = [], [], 0
    for label, target in enumerate(targets):
        texts = [candidate.text for candidate in sample if candidate.label == label]
        marks = target.matrix(texts, embed(texts))
        weights = weigh_texts(target, marks, box)
        exponents = marks @ weights.multipliers
        log_level = _find_log_level(exponents, 1 / WRITTEN_PER_TEXT)
        places = np.flatnonzero(weights.multipliers).tolist()
        acceptances.append(Acceptance(places, weights.multipliers[places].tolist(), log_level))
        accepted = np.exp(np.minimum(exponents - log_level, 0.0))
        accepted /= accepted.sum()
        residuals.append(measure_fit(marks, target.mean, target.deviation, accepted).residuals)
        fitted += weights.active
    return Judgment(acceptances, Fit(np.concatenate(residuals), fitted))


def choose_writer(judgments: Mapping[str, Judgment]) -> str:
    """Choose the writer whose accepted texts are nearest; the first one unless another is clearly nearer."""
    names = list(judgments)
    best = names[0]
    for name in names[1:]:
        if judgments[name].fit.improves_on(judgments[best].fit):
            best = name
    return best


def draw_rows(weights: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw rows in proportion to weights by systematic sampling: each comes floor or ceil of its expected number.

    Args:
        weights: shape (n,), of sum 1.
        count: rows to draw.
        rng: shifts the comb.

    Returns:
        shape (count,), in random order.
    """
    comb = (np.arange(count) + rng.random()) / count
    rows = np.searchsorted(np.cumsum(weights), comb, side="right").clip(max=len(weights) - 1)
    return np.asarray(rng.permutation(rows), dtype=np.int64)


def _find_log_level(exponents: NDArray[np.float64], share: float) -> float:
    """Find c such that the mean of min(1, exp(exponent - c)) is `share`, by bisection."""
    low, high = float(exponents.min()), float(exponents.max()) - math.log(share)
    for _ in range(60):
        level = (low + high) / 2
        low, high = (level, high) if np.exp(np.minimum(exponents - level, 0)).mean() > share else (low, level)
    return high
