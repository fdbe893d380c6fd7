"""Small federations, mechanisms and ledgers for the tests of `privacy`."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privacy import Account, Bounded, Budget, Cost, DiscreteGaussian, Ledger, Relation, Unit, bounded_sum, compose
from privacy.bounding import grid_for, sensitivity_squared

BOUND = Fraction(8)
BUDGET = Budget(1.0, 1e-6)
DELTA = 1e-6

Federation = dict[int, list[tuple[int, float]]]


def add_up(federation: Federation, dimension: int, norm_squared: Fraction = BOUND, normalize: bool = False) -> Bounded:
    """`bounded_sum` of clients that are given as lists of (coordinate, weight)."""
    triples = [(client, where, weight) for client, votes in federation.items() for where, weight in votes]
    return bounded_sum(
        np.array([triple[0] for triple in triples], np.int64),
        np.array([triple[1] for triple in triples], np.int64),
        np.array([triple[2] for triple in triples], np.float64),
        dimension=dimension,
        norm_squared=norm_squared,
        normalize=normalize,
    )


def zeros(dimension: int, norm_squared: int = 1, grid: float = 1.0) -> Bounded:
    """A sum that is zero everywhere, so that what is drawn is the noise alone."""
    return Bounded(np.zeros(dimension, np.int64), grid, norm_squared, nonnegative=True)


def vote(dimension: int = 4) -> Bounded:
    """One client with one vote."""
    return add_up({0: [(0, 1.0)]}, dimension)


def gaussian(noise_multiplier: float, relation: Relation = Relation.ADD_REMOVE) -> DiscreteGaussian:
    """Noise for a sum under the bound of these tests."""
    return DiscreteGaussian.for_sum(noise_multiplier, BOUND, relation)


def cost_of_rounds(
    noise_multiplier: float, rounds: int, dimension: int = 1024, relation: Relation = Relation.ADD_REMOVE
) -> Cost:
    """What `rounds` equal releases cost together."""
    mechanism = DiscreteGaussian.for_sum(noise_multiplier, BOUND, relation)
    cost = mechanism.cost(dimension, sensitivity_squared(grid_for(BOUND)[1], True, relation))
    return compose([cost] * rounds)


def mu_squared(noise_multipliers: list[float]) -> float:
    """Sum of 1 / s_t^2."""
    return math.fsum(multiplier**-2 for multiplier in noise_multipliers)


def open_ledger(path: Path, patience: float = 30.0, budget: Budget = BUDGET) -> Ledger:
    """A ledger that knows the dataset "forum"."""
    ledger = Ledger(path, patience)
    ledger.register("forum", "/data/forum.csv", Unit("user"), Relation.ADD_REMOVE, budget)
    return ledger


def ask(ledger: Ledger, label: str, noise_multiplier: float = 50.0, subject: str = "digest") -> NDArray[np.float64]:
    """Release one client's vote under `label`."""
    release = ledger.release("forum", label, subject, vote(), gaussian(noise_multiplier), Relation.ADD_REMOVE)
    return release.noisy


def labels(account: Account) -> list[str]:
    """The labels that were released, in order."""
    return [release.label for release in account.releases]
