r"""Lower bounds on epsilon from attacks. Numbers only: the attacks themselves are in the rest of `pretext.audit`.

An attack tells two neighboring worlds apart: "without" (the client takes no part) and "with". It gives a score to what
was released: the larger the score, the more the attack believes in "with". Every bound here has a confidence c: where a
mechanism keeps its epsilon, a bound above that epsilon occurs with probability at most 1 - c (the false-alarm rate). A
bound below it proves nothing: another attack may be better.

1. `mu_from_errors`, `epsilon_from_errors`. At a threshold fixed before the counting, false positives and negatives are
   binomial, and Clopper and Pearson (1934) bound both rates from above, each at confidence 1 - (1 - c)/2; both hold
   together with probability c. An (epsilon, delta)-DP mechanism has FPR + e^epsilon FNR >= 1 - delta and
   FNR + e^epsilon FPR >= 1 - delta for every test (Kairouz, Oh and Viswanath 2015). A mu-GDP one has
   Phi^-1(1 - FPR) - Phi^-1(FNR) <= mu (Dong, Roth and Su 2022), and epsilon follows from mu at any delta (Nasr et al.
   2023, "Tight auditing of differentially private machine learning"). Both left sides fall as the rates grow, so the
   upper bounds of the rates may stand in for them.
   The first holds for any mechanism; it cannot exceed about log(trials). The second refutes what this program claims,
   namely mu-GDP (up to a slack below 1e-12, see `privacy.mechanisms`); it is no bound for a mechanism of another kind.
2. `epsilon_in_one_run`. Many canaries, each in or out by a fair coin of its own, in one run; the attack guesses some of
   the coins (Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run"). For an
   (epsilon, delta)-DP mechanism, m canaries and r guesses made without seeing the coins,
       P(at least v right) <= beta + m delta beta (1 - beta) / (v P(W = v)),   beta = P(W >= v),
   with W binomial of r trials and success e^epsilon / (1 + e^epsilon). The canaries may influence each other; nothing
   is assumed of the mechanism but differential privacy. The term with delta is ours; for small delta some mechanism
   reaches it. Theirs (theorem 5.2), 2 m delta max_i P(v > W >= v - i) / i, is larger where it matters (beta is small),
   but too small for small v: let m = r = 3, epsilon = 0, and the output be three bits, all wrong with chance
   (1 - 7 delta) / 8 and otherwise any other triple; that is (0, delta)-DP, and one bit or more is right with chance
   7/8 + 7/8 delta, not 7/8 + 6/8 delta.
   Proof. Permute the canaries and exchange the sides of their coins at random, before and after the mechanism: it stays
   (epsilon, delta)-DP, and equal numbers of right guesses become equally likely wherever they are. Let G_k be the
   chance of k right ones. A coin is guessed with chance r/m, and turning it over makes k - 1 right ones of k, so
   sum_k (k/r) max(0, G_k - e^epsilon (r-k+1)/k G_(k-1)) <= m delta / r. With w_k = P(W = k) and h_k = G_k / w_k this is
   sum_k k w_k max(0, h_k - h_(k-1)) <= m delta. Now P(at least v right) - beta = sum_(k >= v > l) w_k w_l (h_k - h_l)
   <= sum_j max(0, h_j - h_(j-1)) P(W >= max(j, v)) P(W < min(j, v))
   <= m delta max_j P(W >= max(j, v)) P(W < min(j, v)) / (j w_j).
   The maximum is at j = v: w is log-concave, so P(W < j) / (j w_j) grows with j and P(W >= j) / (j w_j) falls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.accounting import Cost, check_delta, epsilon
from privacy.errors import InvalidParameter

Floats = NDArray[np.float64]

_THRESHOLD_CONFIDENCE = 1 - 1e-6
"""Confidence at which thresholds are compared. Any is valid; a low one would choose lucky thresholds in the tails."""


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of a test with a fixed threshold: `false_positives` of `without` trials, `false_negatives` of `with_`."""

    false_positives: int
    without: int
    false_negatives: int
    with_: int

    def __post_init__(self) -> None:
        if not (0 <= self.false_positives <= self.without and 0 <= self.false_negatives <= self.with_):
            raise InvalidParameter("A test cannot err more often than it is tried.")
        if not (self.without and self.with_):
            raise InvalidParameter("An attack needs trials of both worlds.")

    def upper_rates(self, confidence: float) -> tuple[float, float]:
        """Bound the rates of false positives and false negatives; both bounds hold with probability `confidence`."""
        per_rate = (1 + _check_confidence(confidence)) / 2
        return (
            _upper_rate(self.false_positives, self.without, per_rate),
            _upper_rate(self.false_negatives, self.with_, per_rate),
        )


def count_errors(without: Floats, with_: Floats) -> ErrorCounts:
    """Choose a threshold on the first half of the trials and count its errors on the second.

    Args:
        without, with_: scores in the two worlds, each of shape (trials,), at least two, in an order that tells nothing.
            The threshold is the one that proves the largest mu on the first halves.

    Raises:
        InvalidParameter: fewer than two trials of a world.
    """
    if min(len(without), len(with_)) < 2:
        raise InvalidParameter("An attack needs at least two trials of both worlds.")
    a, b = len(without) // 2, len(with_) // 2
    threshold = _choose_threshold(without[:a], with_[:b])
    false_positives, false_negatives = (without[a:] > threshold).sum(), (with_[b:] <= threshold).sum()
    return ErrorCounts(int(false_positives), len(without) - a, int(false_negatives), len(with_) - b)


def mu_from_errors(errors: ErrorCounts, confidence: float) -> float:
    """Bound mu from below if the mechanism is mu-GDP; 0 where the attack was no better than chance."""
    from scipy import stats

    false_positive, false_negative = errors.upper_rates(confidence)
    return max(0.0, float(stats.norm.isf(false_positive) - stats.norm.ppf(false_negative)))


def epsilon_from_mu(mu: float, delta: float) -> float:
    """Return epsilon at `delta` of a mu-GDP mechanism."""
    return epsilon(Cost(mu**2), delta)


def epsilon_from_errors(errors: ErrorCounts, delta: float, confidence: float) -> float:
    """Bound epsilon at `delta` from below, for any mechanism; 0 where the attack was no better than chance."""
    check_delta(delta)
    false_positive, false_negative = errors.upper_rates(confidence)
    pairs = ((false_positive, false_negative), (false_negative, false_positive))
    return max(0.0, *(_log_or_minus_infinity(1 - delta - a) - _log_or_minus_infinity(b) for a, b in pairs))


def epsilon_in_one_run(
    scores: Floats, present: NDArray[np.bool_], guesses: int, delta: float, confidence: float
) -> float:
    """Bound epsilon at `delta` from below, from many canaries with a fair coin each (bound 2 above).

    Args:
        scores: shape (m,), larger for canaries that seem present.
        present: shape (m,), the coins; used only to count the right guesses.
        guesses: how many are guessed, 2 to m, fixed in advance: one half, with the largest scores, as present, the
            other, with the smallest, as absent. Few extreme ones are surer, many prove more of what they show.

    Raises:
        InvalidParameter: the shapes differ, or there are too few or too many guesses.
    """
    check_delta(delta)
    if scores.shape != present.shape or not 2 <= guesses <= scores.size:
        raise InvalidParameter("An audit in one run needs a score and a coin for each canary, and two guesses or more.")
    order = np.argsort(scores, kind="stable")
    half = guesses // 2
    right = int((~present[order[:half]]).sum() + present[order[-half:]].sum())
    return _largest_refuted_epsilon(right, 2 * half, scores.size, delta, 1 - _check_confidence(confidence))


def _largest_refuted_epsilon(right: int, guesses: int, canaries: int, delta: float, alarm: float) -> float:
    """Return the largest epsilon (to 1e-6, rounded down) at which so many right guesses have chance `alarm` at most."""
    low, high = 0.0, 1.0
    if _bound_chance(right, guesses, canaries, low, delta) > alarm:
        return 0.0
    while _bound_chance(right, guesses, canaries, high, delta) <= alarm:
        low, high = high, 2 * high
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if _bound_chance(right, guesses, canaries, middle, delta) <= alarm else (low, middle)
    return low


def _bound_chance(right: int, guesses: int, canaries: int, tested_epsilon: float, delta: float) -> float:
    """Bound the chance of at least `right` right guesses under (tested_epsilon, delta)-DP (bound 2 above)."""
    from scipy import stats

    if right == 0:
        return 1.0
    law = stats.binom(guesses, 1 / (1 + math.exp(-tested_epsilon)))
    # P(W >= v) and P(W < v), both in units of P(W = v), which may be too small for a float.
    relative = np.exp(np.minimum(law.logpmf(np.arange(guesses + 1)) - law.logpmf(right), 600.0))
    above, below = relative[right:].sum(), relative[:right].sum()
    return min(1.0, float(law.sf(right - 1) + canaries * delta / (right * (1 / above + 1 / below))))


def _choose_threshold(without: Floats, with_: Floats) -> float:
    """Choose, of the thresholds between two scores, the one that proves the largest mu."""
    from scipy import stats

    seen = np.unique(np.concatenate([without, with_]))
    between = (seen[1:] + seen[:-1]) / 2 if len(seen) > 1 else seen
    above = len(without) - np.searchsorted(np.sort(without), between, side="right")
    below = np.searchsorted(np.sort(with_), between, side="right")
    false_positive = _upper_rates(above, len(without), _THRESHOLD_CONFIDENCE)
    false_negative = _upper_rates(below, len(with_), _THRESHOLD_CONFIDENCE)
    return float(between[int(np.argmax(stats.norm.isf(false_positive) - stats.norm.ppf(false_negative)))])


def _upper_rate(errors: int, trials: int, confidence: float) -> float:
    return float(_upper_rates(np.array([errors]), trials, confidence)[0])


def _upper_rates(errors: NDArray[np.int64], trials: int, confidence: float) -> Floats:
    """Return Clopper and Pearson's one-sided upper bounds on a rate."""
    from scipy import stats

    bounds = stats.beta.ppf(confidence, errors + 1, np.maximum(trials - errors, 1))
    return np.asarray(np.where(errors == trials, 1.0, bounds), dtype=np.float64)


def _check_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InvalidParameter(f"The confidence is {confidence}; it must lie between 0 and 1, for example 0.95.")
    return confidence


def _log_or_minus_infinity(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
