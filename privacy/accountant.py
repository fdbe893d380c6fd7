"""Accounting: what Gaussian releases cost together, exactly, and never rounded to the unsafe side.

A release costs `mu_squared` (of Gaussian differential privacy) and `slack` (total-variation distance to the continuous
Gaussian mechanism); both add up over releases, chosen adaptively or not. The curve is dp-accounting's. Proofs and
sources: `privacy.mechanisms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from privacy.errors import InvalidParameter


@dataclass(frozen=True)
class Cost:
    """Privacy cost of one or many releases; costs add up with `compose`."""

    mu_squared: float = 0.0
    slack: float = 0.0


def compose(costs: Iterable[Cost]) -> Cost:
    """The cost of all releases together, rounded up."""
    listed = list(costs)
    if not listed:
        return Cost()
    mu_squared = math.fsum(cost.mu_squared for cost in listed)
    slack = math.fsum(cost.slack for cost in listed)
    return Cost(math.nextafter(mu_squared, math.inf), math.nextafter(slack, math.inf))


def delta(cost: Cost, epsilon: float) -> float:
    """The smallest delta at which the releases are (epsilon, delta)-DP, at most 1."""
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

    if cost.mu_squared == 0:
        return 0.0
    gaussian = GaussianPrivacyLoss(standard_deviation=1.0 / math.sqrt(cost.mu_squared))
    return float(min(1.0, gaussian.get_delta_for_epsilon(epsilon) + _slack(cost, epsilon)))


def epsilon(cost: Cost, delta_target: float) -> float:
    """The smallest epsilon (to 1e-9, rounded up) at which the releases are (epsilon, delta_target)-DP.

    Infinite when the slack alone exceeds `delta_target`.

    Raises:
        InvalidParameter: `delta_target` is outside (0, 1).
    """
    from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

    check_delta(delta_target)
    if cost.mu_squared == 0:
        return 0.0
    sigma = 1.0 / math.sqrt(cost.mu_squared)
    value = float(get_epsilon_gaussian(sigma, delta_target))
    step = 1e-9
    while delta(cost, value) > delta_target:
        room = delta_target - _slack(cost, value)
        if room <= 0:
            return math.inf
        value = max(float(get_epsilon_gaussian(sigma, room)), value) + step
        step *= 2
    return value


def rdp_epsilon(cost: Cost, delta_target: float) -> float:
    """The looser epsilon of Renyi accounting (what the PrE-Text paper prints); for comparison, never for a claim."""
    from dp_accounting import GaussianDpEvent
    from dp_accounting.rdp import RdpAccountant

    check_delta(delta_target)
    if cost.mu_squared == 0:
        return 0.0
    accountant = RdpAccountant()
    accountant.compose(GaussianDpEvent(1.0 / math.sqrt(cost.mu_squared)))
    return float(accountant.get_epsilon(delta_target))


def calibrate(epsilon_target: float, delta_target: float, cost_of: Callable[[float], Cost]) -> float:
    """The smallest noise multiplier (to a relative 1e-3 at worst, usually 1e-9) whose cost keeps within
    (epsilon_target, delta_target).

    `cost_of(noise_multiplier)` builds the releases themselves and adds up their costs, so the answer is checked against
    the very objects that will draw.

    Raises:
        InvalidParameter: the target is outside the range of the definition or cannot be met.
    """
    from dp_accounting.gaussian_mechanism import get_sigma_gaussian

    check_epsilon(epsilon_target)
    check_delta(delta_target)
    mu = 1.0 / float(get_sigma_gaussian(epsilon_target, delta_target))
    multiplier = math.sqrt(cost_of(1.0).mu_squared) / mu
    step = 1e-10
    while epsilon(cost_of(multiplier), delta_target) > epsilon_target:
        multiplier *= 1.0 + step
        step *= 2
        if step > 1e-3:
            raise InvalidParameter(
                f"No noise on this grid keeps within epsilon {epsilon_target} and delta {delta_target}: "
                "the slack of the grid, which grows like e^epsilon, exceeds the delta; ask for a smaller epsilon (above 20 "
                "it guarantees next to nothing anyway) or a larger delta."
            )
    return multiplier


def mu_squared_for(epsilon_target: float, delta_target: float) -> float:
    """The mu^2 that a budget of (epsilon_target, delta_target) can hold when no slack is spent."""
    from dp_accounting.gaussian_mechanism import get_sigma_gaussian

    return float(get_sigma_gaussian(epsilon_target, delta_target)) ** -2


def check_epsilon(value: float) -> None:
    """Raises InvalidParameter unless 0 < value < infinity."""
    if not (math.isfinite(value) and value > 0):
        raise InvalidParameter(f"epsilon is {value}; it must be a finite number above 0, for example 1.0.")


def check_delta(value: float) -> None:
    """Raises InvalidParameter unless 0 < value < 1."""
    if not 0 < value < 1:
        raise InvalidParameter(f"delta is {value}; it must lie between 0 and 1, below one over the number of clients.")


def _slack(cost: Cost, at: float) -> float:
    return math.exp(min(at, 700.0)) * cost.slack + cost.slack
