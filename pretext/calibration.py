"""From epsilon to noise, for rounds and for FreD."""

from __future__ import annotations

from pretext.config.settings import Config
from privacy import Cost, DiscreteGaussian, Relation, calibrate, compose
from privacy.bounding import grid_for, sensitivity_squared
from privacy.moments import moments_cost, moments_mechanism

_LARGEST_DIMENSION = 32_768


def moments_multiplier(config: Config, epsilon: float | None = None) -> float:
    """The configured one, or the smallest at which any query costs at most `epsilon` (default: all of it)."""
    privacy = config.privacy
    target = epsilon or privacy.epsilon
    if target is None:
        assert privacy.noise_multiplier is not None
        return privacy.noise_multiplier
    return calibrate(target, privacy.delta, lambda multiplier: max_moments_cost(config, multiplier, privacy.relation))


def max_moments_cost(config: Config, multiplier: float, relation: Relation) -> Cost:
    """What a query costs at most under the configured relation or the budget's own; its size hardly matters."""
    return moments_cost(_LARGEST_DIMENSION, moments_mechanism(multiplier, config.privacy.relation), relation)


def fred_epsilon(config: Config) -> float | None:
    """What finding the initial candidates may spend of a run's epsilon."""
    epsilon = config.privacy.epsilon
    return None if epsilon is None else epsilon * config.initial.public_sets_share


def fred_cost(config: Config, relation: Relation) -> Cost:
    """What finding the initial candidates costs a run at most; nothing where there are none."""
    if not config.initial.public_sets:
        return Cost()
    return max_moments_cost(config, moments_multiplier(config, fred_epsilon(config)), relation)


def noise_multiplier(config: Config) -> float:
    """The configured one, or the smallest that keeps all rounds, and finding the candidates, within epsilon, delta."""
    privacy = config.privacy
    if privacy.noise_multiplier is not None:
        return privacy.noise_multiplier
    assert privacy.epsilon is not None

    def cost_of(multiplier: float) -> Cost:
        return compose([round_cost(config, multiplier)] * privacy.rounds)

    return calibrate(privacy.epsilon, privacy.delta, cost_of, fred_cost(config, privacy.relation))


def round_cost(config: Config, multiplier: float, relation: Relation | None = None) -> Cost:
    """What one round costs at most (a population may shrink, never grow), under the run's or another relation."""
    privacy = config.privacy
    _, bound = grid_for(privacy.norm_squared)
    mechanism = DiscreteGaussian.for_sum(multiplier, privacy.norm_squared, privacy.relation)
    return mechanism.cost(config.evolution.population, sensitivity_squared(bound, True, relation or privacy.relation))
