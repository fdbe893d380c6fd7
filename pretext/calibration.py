"""From epsilon to the noise of a round and of FreD, in one place: plan, jobs and verify all calibrate here.

A run spends its epsilon on `rounds` releases of votes and, where FreD finds the public sets, on one release of moments
before them. The price is computed from the very mechanism that draws, and from public settings alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from pretext.config.settings import Config, Initial, Privacy
from privacy import Cost, DiscreteGaussian, Relation, budget_epsilon, calibrate, compose, epsilon
from privacy.bounding import grid_for, sensitivity_squared
from privacy.moments import moments_cost, moments_mechanism
from privacy.rounding import round_up

_LARGEST_DIMENSION = 32_768
"""Coordinates of the largest query of FreD. The cost hardly depends on it: only the slack does."""
_LEAST_SHARE = 0.95
"""Of an epsilon: where the curve of the Gaussian accounts for less of it, the price of the noise's grid is told."""


@dataclass(frozen=True)
class Calibration:
    """The noise of a run and its price.

    Attributes:
        privacy: the guarantee.
        initial: whether FreD finds public sets, and with which share of epsilon.
        coordinates: of a round's release at most; a population may shrink, never grow.
    """

    privacy: Privacy
    initial: Initial
    coordinates: int

    @classmethod
    def of(cls, config: Config) -> Calibration:
        """Take what a configuration asks for."""
        return cls(config.privacy, config.initial, config.coordinates)

    @cached_property
    def noise_multiplier(self) -> float:
        """The configured noise of a round / its sensitivity, or the least at which the run fits epsilon and delta.

        Raises:
            InvalidParameter: no noise meets the target.
        """
        privacy = self.privacy
        if privacy.noise_multiplier is not None:
            return privacy.noise_multiplier
        assert privacy.epsilon is not None

        def cost_of(multiplier: float) -> Cost:
            return compose([self._round_cost(multiplier, privacy.relation)] * privacy.rounds)

        return calibrate(privacy.epsilon, privacy.delta, cost_of, self.fred_cost())

    @property
    def mechanism(self) -> DiscreteGaussian:
        """The object that draws the noise of every round."""
        return self._mechanism(self.noise_multiplier)

    def round_cost(self, relation: Relation | None = None) -> Cost:
        """Compute what one round costs at most, under the run's or another relation."""
        return self._round_cost(self.noise_multiplier, relation or self.privacy.relation)

    def rounds_cost(self, relation: Relation | None = None) -> Cost:
        """Compute what all rounds together cost at most."""
        return compose([self.round_cost(relation)] * self.privacy.rounds)

    @property
    def fred_epsilon(self) -> float | None:
        """What finding the public sets may spend of epsilon; None where the noise itself is configured."""
        epsilon = self.privacy.epsilon
        return None if epsilon is None else epsilon * self.initial.public_sets_share

    def fred_cost(self, relation: Relation | None = None) -> Cost:
        """Compute what finding the public sets costs at most; nothing where FreD is not asked."""
        if not self.initial.public_sets:
            return Cost()
        multiplier = moments_multiplier(self.privacy, self.fred_epsilon)
        return _max_moments_cost(self.privacy, multiplier, relation or self.privacy.relation)

    def total_cost(self, relation: Relation | None = None) -> Cost:
        """Compute what all releases of the run cost at most: what is fixed before the first one, and stated."""
        finding = [self.fred_cost(relation)] if self.initial.public_sets else []
        return compose([*finding, *[self.round_cost(relation)] * self.privacy.rounds])

    def _mechanism(self, multiplier: float) -> DiscreteGaussian:
        return DiscreteGaussian.for_sum(multiplier, self.privacy.norm_squared, self.privacy.relation)

    def _round_cost(self, multiplier: float, relation: Relation) -> Cost:
        _, bound = grid_for(self.privacy.norm_squared)
        return self._mechanism(multiplier).cost(self.coordinates, sensitivity_squared(bound, True, relation))


def explain_slack(privacy: Privacy, cost: Cost) -> str | None:
    """Say so where the price of the noise's grid (the slack), and not the noise, decides on epsilon.

    That is so above about epsilon 20, which no budget enforces, and at a very small delta with many coordinates.
    """
    remedy = "take a larger delta, fewer candidates or rounds, or an epsilon of at most 20"
    if privacy.epsilon is not None:
        if (used := epsilon(cost, privacy.delta)) >= _LEAST_SHARE * privacy.epsilon:
            return None
        return (
            f"Of epsilon {privacy.epsilon:g} only {round_up(used)} is used: at delta {privacy.delta:g} the price of "
            f"the noise's grid allows no less noise; {remedy}."
        )
    needed = budget_epsilon(cost, privacy.delta)
    if needed == math.inf:
        return (
            f"At delta {privacy.delta:g} no budget holds a noise multiplier of {privacy.noise_multiplier:g}, as the "
            f"price of the noise's grid is more than a budget sets aside for it; {remedy}, or more noise."
        )
    curve = epsilon(Cost(cost.mu_squared), privacy.delta)
    if curve >= _LEAST_SHARE * needed:
        return None
    return (
        f"At delta {privacy.delta:g} this noise takes a budget of epsilon {round_up(needed)}; the noise itself costs "
        f"{round_up(curve)}, and the price of its grid the rest; {remedy}, or more noise."
    )


def moments_multiplier(privacy: Privacy, epsilon: float | None = None) -> float:
    """Find the noise of a release of moments / its sensitivity: the least at which any query costs at most `epsilon`.

    Without `epsilon` all of the configured one is spent, or the configured noise taken.

    Raises:
        InvalidParameter: no noise meets the target.
    """
    target = epsilon or privacy.epsilon
    if target is None:
        assert privacy.noise_multiplier is not None
        return privacy.noise_multiplier
    return calibrate(target, privacy.delta, lambda multiplier: _max_moments_cost(privacy, multiplier, privacy.relation))


def _max_moments_cost(privacy: Privacy, multiplier: float, relation: Relation) -> Cost:
    return moments_cost(_LARGEST_DIMENSION, moments_mechanism(multiplier, privacy.relation), relation)
