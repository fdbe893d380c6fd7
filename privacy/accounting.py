"""Accounting: what Gaussian releases cost together, exactly, and never rounded to the unsafe side.

A release costs `mu_squared` (of Gaussian differential privacy) and `slack` (total-variation distance to the continuous
Gaussian mechanism); both add up over releases. The curve is dp-accounting's. Proofs and sources:
`privacy.mechanisms`.

Two questions are kept apart. `epsilon` and `delta` tell what releases of a known total cost. `fits` decides beforehand
whether an adaptive sequence may go on: it sets a share of delta aside for the slack, fixed by the target alone, so that
no adversary can gain by trading the one kind of cost against the other depending on what was released before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from privacy.errors import InvalidParameter

LEAST_DELTA = 1e-12
"""The least delta of a budget: below it the slack, not the curve, would decide on the noise."""
_LARGEST_SLACK = 1e-15  # of hundreds of releases


@dataclass(frozen=True)
class Cost:
    """Privacy cost of one release or of many; `compose` adds costs up.

    Raises:
        InvalidParameter: a part is negative or not finite.
    """

    mu_squared: float = 0.0
    slack: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.mu_squared < math.inf and 0 <= self.slack < math.inf):
            raise InvalidParameter(f"The cost {self.mu_squared}, {self.slack} is not a pair of finite numbers >= 0.")


def compose(costs: Iterable[Cost]) -> Cost:
    """Add up the costs of all releases, rounded up."""
    parts = list(costs)
    if not parts:
        return Cost()
    mu_squared = math.fsum(part.mu_squared for part in parts)
    slack = math.fsum(part.slack for part in parts)
    return Cost(math.nextafter(mu_squared, math.inf), math.nextafter(slack, math.inf))


@dataclass(frozen=True)
class RunningCost:
    """The sum of the costs of all releases so far, without any rounding error.

    Claim: `cost` is never below the true sum, after any number of releases, and is bit for bit what `compose` gives for
    all of them at once.
    Proof: a cost is a pair of floats, so each part is an integer times a power of two. `Fraction` adds those exactly;
    by induction the sum held here is the true one. `float` of a fraction rounds to nearest: the result is off by at
    most half the distance to its neighbor, so the next float above it is not below the true sum. `compose` takes the
    next float above `fsum`, which also rounds the true sum once, to nearest. A sum is 0 only where nothing was
    released, since every release costs more than 0; there both give 0.
    A float that is rounded up at each release would be safe as well, but it grows by one unit in the last place each
    time: after 100,000 releases by more than the headroom of `calibrate`.

    Raises:
        InvalidParameter: a part is negative.
    """

    mu_squared: Fraction = Fraction(0)
    slack: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if self.mu_squared < 0 or self.slack < 0:
            raise InvalidParameter("A running cost is negative.")

    def __add__(self, other: RunningCost) -> RunningCost:
        return RunningCost(self.mu_squared + other.mu_squared, self.slack + other.slack)

    def plus(self, cost: Cost) -> RunningCost:
        """Add one more release."""
        return RunningCost(self.mu_squared + Fraction(cost.mu_squared), self.slack + Fraction(cost.slack))

    def without(self, cost: Cost) -> RunningCost:
        """Take a release off a reservation; what it costs beyond a part leaves 0 of that part."""
        return RunningCost(
            max(Fraction(0), self.mu_squared - Fraction(cost.mu_squared)),
            max(Fraction(0), self.slack - Fraction(cost.slack)),
        )

    def covers(self, cost: Cost) -> bool:
        """Say whether `cost` is at most this, in both parts."""
        return Fraction(cost.mu_squared) <= self.mu_squared and Fraction(cost.slack) <= self.slack

    @property
    def cost(self) -> Cost:
        """The sum as floats, rounded up (claim above)."""
        return Cost(_float_above(self.mu_squared), _float_above(self.slack))


def delta(cost: Cost, epsilon: float) -> float:
    """Compute the smallest delta at which the releases are (epsilon, delta)-DP, at most 1."""
    return min(1.0, _gaussian_delta(cost.mu_squared, epsilon) + _slack_delta(cost, epsilon))


def epsilon(cost: Cost, delta_target: float) -> float:
    """Compute the smallest epsilon (to 1e-9, rounded up) at which the releases are (epsilon, delta_target)-DP.

    Infinite when the slack alone exceeds `delta_target`.

    Raises:
        InvalidParameter: `delta_target` is outside (0, 1).
    """
    check_delta(delta_target)
    low = high = _gaussian_epsilon(cost.mu_squared, delta_target)
    step = 1e-9
    while delta(cost, high) > delta_target:
        room = delta_target - _slack_delta(cost, high)
        if room <= 0:
            return math.inf
        low, high, step = high, max(_gaussian_epsilon(cost.mu_squared, room), high) + step, 2 * step
    while high - low > 1e-9 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (low, middle) if delta(cost, middle) <= delta_target else (middle, high)
    return high


def rdp_epsilon(cost: Cost, delta_target: float) -> float:
    """Compute the looser epsilon of Renyi accounting (what the PrE-Text paper prints); it never backs a claim."""
    from dp_accounting import GaussianDpEvent
    from dp_accounting.rdp import RdpAccountant

    check_delta(delta_target)
    if cost.mu_squared == 0:
        return 0.0
    accountant = RdpAccountant()
    accountant.compose(GaussianDpEvent(_noise_multiplier_for(cost.mu_squared)))
    return float(accountant.get_epsilon(delta_target))


def fits(cost: Cost, epsilon_target: float, delta_target: float) -> bool:
    """Decide whether releases of this cost, chosen adaptively, stay within (epsilon_target, delta_target)."""
    epsilon_target = _cap_epsilon(epsilon_target, delta_target)
    aside = _slack_share(epsilon_target, delta_target) * delta_target
    gaussian = _gaussian_delta(cost.mu_squared, epsilon_target)
    return gaussian <= delta_target - aside and _slack_delta(cost, epsilon_target) <= aside


def budget_epsilon(cost: Cost, delta_target: float) -> float:
    """Compute the least epsilon (to a relative 1e-6, rounded up) whose budget holds releases of this cost.

    It is a little above `epsilon`, because `fits` sets a share of delta aside. Infinite when the slack is too large for
    `delta_target`, so that no budget holds them.

    Raises:
        InvalidParameter: `delta_target` is outside (0, 1).
    """
    low = high = max(_gaussian_epsilon(cost.mu_squared, delta_target), 1e-9)
    step = 1e-9
    while not _fits_with_headroom(cost, high, delta_target):
        if _cap_epsilon(high, delta_target) < high:
            return math.inf
        low, high, step = high, high * (1 + step), 4 * step
    while high / low > 1 + 1e-6:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _fits_with_headroom(cost, middle, delta_target) else (middle, high)
    return high


def calibrate(
    epsilon_target: float, delta_target: float, cost_of: Callable[[float], Cost], fixed_cost: Cost | None = None
) -> float:
    """Find the smallest noise multiplier (to a relative 1e-9) whose cost fits (epsilon_target, delta_target).

    Args:
        epsilon_target, delta_target: what all releases together may cost.
        cost_of: builds the releases for a noise multiplier and adds up their costs, so that the answer is checked
            against the very objects that will draw.
        fixed_cost: of other releases that must fit the same target.

    Raises:
        InvalidParameter: the target is outside the range of the definition, or `fixed_cost` leaves nothing of it.
    """
    check_epsilon(epsilon_target)
    check_delta(delta_target)
    fixed = fixed_cost or Cost()
    room = mu_squared_for(epsilon_target, delta_target) - fixed.mu_squared
    if room <= 0:
        raise InvalidParameter(f"The other releases leave nothing of epsilon {epsilon_target}; give them less.")

    def enough(multiplier: float) -> bool:
        cost = compose([fixed, cost_of(multiplier)])
        return _fits_with_headroom(cost, epsilon_target, delta_target)

    low = math.sqrt(cost_of(1.0).mu_squared / room) * (1 - 1e-9)
    high, step = low, 1e-9
    while not enough(high):
        low, high, step = high, high * (1 + step), 2 * step
    while high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def mu_squared_for(epsilon_target: float, delta_target: float) -> float:
    """Compute the largest mu^2 that fits (epsilon_target, delta_target), to floating-point precision."""
    epsilon_target = _cap_epsilon(epsilon_target, delta_target)
    from dp_accounting.gaussian_mechanism import get_sigma_gaussian

    return (
        float(get_sigma_gaussian(epsilon_target, delta_target * (1 - _slack_share(epsilon_target, delta_target)))) ** -2
    )


def check_epsilon(value: float) -> None:
    """Raise InvalidParameter unless 0 < value < infinity."""
    if not (math.isfinite(value) and value > 0):
        raise InvalidParameter(f"epsilon is {value}; it must be a finite number above 0, for example 1.0.")


def check_delta(value: float) -> None:
    """Raise InvalidParameter unless 0 < value < 1."""
    if not 0 < value < 1:
        raise InvalidParameter(f"delta is {value}; it must lie between 0 and 1, below one over the number of clients.")


def _fits_with_headroom(cost: Cost, epsilon_target: float, delta_target: float) -> bool:
    """Do as `fits`, with room for adding up the same releases in another order: none must be refused by an ulp."""
    return fits(Cost(cost.mu_squared * (1 + 1e-12), cost.slack * (1 + 1e-12)), epsilon_target, delta_target)


def _cap_epsilon(epsilon_target: float, delta_target: float) -> float:
    """The epsilon that is enforced in place of a very large one (above about 20 at delta 1e-6), which it implies.

    Slack counts e^epsilon times, so a target of 100 taken literally would have no room for any release.
    """
    return min(epsilon_target, max(10.0, math.log(0.5 * delta_target / _LARGEST_SLACK)))


def _slack_share(epsilon_target: float, delta_target: float) -> float:
    """The share of delta that is set aside for the slack: 1e-5, and more where e^epsilon makes slack expensive."""
    if epsilon_target <= 10:
        return 1e-5
    return min(
        0.5, max(1e-5 * math.exp(epsilon_target - 10), (1 + math.exp(epsilon_target)) * _LARGEST_SLACK / delta_target)
    )


def _gaussian_delta(mu_squared: float, epsilon_target: float) -> float:
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

    if mu_squared == 0:
        return 0.0
    return float(
        GaussianPrivacyLoss(standard_deviation=_noise_multiplier_for(mu_squared)).get_delta_for_epsilon(epsilon_target)
    )


def _gaussian_epsilon(mu_squared: float, delta_target: float) -> float:
    from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

    if mu_squared == 0:
        return 0.0
    with np.errstate(divide="ignore"):  # its search passes by log(0)
        return float(get_epsilon_gaussian(_noise_multiplier_for(mu_squared), delta_target))


def _noise_multiplier_for(mu_squared: float) -> float:
    """The noise multiplier of one Gaussian release that costs this; near 0 rounded up, clear of overflow."""
    return 1.0 / math.sqrt(max(mu_squared, 1e-100))


def _slack_delta(cost: Cost, epsilon_target: float) -> float:
    return (math.exp(min(epsilon_target, 700.0)) + 1.0) * cost.slack


def _float_above(exact: Fraction) -> float:
    return math.nextafter(float(exact), math.inf) if exact else 0.0
