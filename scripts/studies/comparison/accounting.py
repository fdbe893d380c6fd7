"""Noise of federated training at (epsilon, delta), unit client, relation add/remove; by dp-accounting.

The noise multiplier is noise standard deviation / clip norm: a client's clipped update moves the sum by that norm.
"""

from __future__ import annotations

import math
from typing import Any

from privacy import Budget, Cost, calibrate


def fedavg_multiplier(budget: Budget | None, rounds: int, rate: float) -> float:
    """Return the noise multiplier of `rounds` Gaussian sums over clients who each join a round with chance `rate`.

    Its source are pessimistic privacy loss distributions of the Poisson-sampled Gaussian; it is verified before it is
    returned. With rate 1 it follows the exact curve; no budget means no noise.
    """
    from dp_accounting import calibrate_dp_mechanism

    if budget is None:
        return 0.0
    if rate == 1:
        return calibrate(budget.epsilon, budget.delta, lambda multiplier: Cost(rounds / multiplier**2))

    def event(multiplier: float) -> Any:
        return _fedavg_event(multiplier, rounds, rate)

    multiplier = float(calibrate_dp_mechanism(_accountant, event, budget.epsilon, budget.delta, tol=1e-3))
    while fedavg_epsilon(multiplier, budget.delta, rounds, rate) > budget.epsilon:
        multiplier *= 1 + 1e-4
    return multiplier


def fedavg_epsilon(multiplier: float, delta: float, rounds: int, rate: float) -> float:
    """Return the epsilon of `rounds` rounds with this noise."""
    return float(_accountant().compose(_fedavg_event(multiplier, rounds, rate)).get_epsilon(delta))


def ftrl_multiplier(budget: Budget | None, epochs: int, steps: int) -> float:
    """Return the noise multiplier of every node of the trees, one tree of `steps` leaves per epoch.

    A client is in one leaf of every tree, at a step that depends on itself alone, so its presence moves the nodes
    above that leaf, `tree_height` of them, each by at most the clip norm: a Gaussian mechanism of sensitivity
    sqrt(height) per epoch, also when later updates depend on earlier sums (Kairouz et al.
    2021, theorem C.1; Denisov et al. 2022, theorem 2.1). Epochs compose as Gaussians do, which is exact;
    dp-accounting's own event takes the looser Renyi way.
    """
    if budget is None:
        return 0.0
    moved = epochs * tree_height(steps)
    return calibrate(budget.epsilon, budget.delta, lambda multiplier: Cost(moved / multiplier**2))


def tree_height(steps: int) -> int:
    """Return the largest number of nodes above and including a leaf in a binary tree over `steps` steps."""
    return math.ceil(math.log2(steps + 1))


def _accountant() -> Any:
    """Return an accountant on a grid ten times coarser than usual, which is much faster; it rounds up."""
    from dp_accounting.pld import PLDAccountant

    return PLDAccountant(value_discretization_interval=1e-3)


def _fedavg_event(multiplier: float, rounds: int, rate: float) -> Any:
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(multiplier)), rounds)
