"""What an attack proved, beside what the program claims."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pretext.audit.lower_bounds import (
    count_errors,
    epsilon_from_errors,
    epsilon_from_mu,
    epsilon_in_one_run,
    mu_from_errors,
)
from privacy.rounding import round_down

BOUND_CONFIDENCE = 0.95
ACCUSATION_CONFIDENCE = 1 - 1e-7
"""Confidence of an accusation. An audit makes fourteen attacks that leave room for chance; together they accuse a sound
program less than twice in a million audits. At 95 % they might accuse it in every second one."""

Verdict = Literal["below the claim", "above, within chance", "ABOVE THE CLAIM"]


@dataclass(frozen=True)
class Finding:
    """The result of one attack. All epsilons are at the same delta.

    Attributes:
        attack: its name.
        method: how epsilon was bounded, in a few words.
        trials: games played; in each, a client took part or not.
        bound: lower bound on epsilon at confidence 95 %.
        certain: lower bound on epsilon at the confidence of an accusation.
        claim: epsilon that the program states for what was attacked.
    """

    attack: str
    method: str
    trials: int
    bound: float
    certain: float
    claim: float

    @property
    def bound_text(self) -> str:
        """`bound` in print, rounded down."""
        return "no finite one" if math.isinf(self.bound) else round_down(self.bound, 3)

    @property
    def verdict(self) -> Verdict:
        """Whether the claim is refuted."""
        if self.certain > self.claim:
            return "ABOVE THE CLAIM"
        return "above, within chance" if self.bound > self.claim else "below the claim"


def finding_from_errors(
    attack: str, without: NDArray[np.float64], with_: NDArray[np.float64], claim: float, delta: float
) -> Finding:
    """Bound epsilon from the scores of independent games, one array for each of the two worlds."""
    errors = count_errors(without, with_)

    def bound(confidence: float) -> float:
        # Each of the two bounds gets half the doubt, so that the larger one may be taken.
        per_bound = (1 + confidence) / 2
        mu = mu_from_errors(errors, per_bound)
        return max(epsilon_from_mu(mu, delta), epsilon_from_errors(errors, delta, per_bound))

    return Finding(
        attack,
        "error rates, Gaussian DP",
        len(without) + len(with_),
        bound(BOUND_CONFIDENCE),
        bound(ACCUSATION_CONFIDENCE),
        claim,
    )


def finding_from_guesses(
    attack: str, scores: NDArray[np.float64], present: NDArray[np.bool_], claim: float, delta: float
) -> Finding:
    """Bound epsilon from the scores and coins of canaries, which may depend on each other."""
    guesses = max(2, min(len(scores), max(len(scores) // 8, 32)))
    bound, certain = (
        epsilon_in_one_run(scores, present, guesses, delta, confidence)
        for confidence in (BOUND_CONFIDENCE, ACCUSATION_CONFIDENCE)
    )
    return Finding(attack, f"{guesses} guesses, any mechanism", len(scores), bound, certain, claim)
