"""Broken parts of the guarantee, for tests that need one in their own process: to show that they see something, or to
take chance out of a result. What must be noticed when it breaks is in `tests/mutants.py`."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy import Bounded, DiscreteGaussian, grid_for

_draw = DiscreteGaussian.draw
Patch = pytest.MonkeyPatch


def forget_noise(patch: Patch) -> None:
    patch.setattr(DiscreteGaussian, "draw", lambda self, bounded: bounded.value)


def halve_noise(patch: Patch) -> None:
    def draw(self: DiscreteGaussian, bounded: Bounded) -> NDArray[np.int64]:
        return _draw(DiscreteGaussian(self.sigma / 2, self.grid), bounded)

    patch.setattr(DiscreteGaussian, "draw", draw)


def seed_noise_once(patch: Patch) -> None:
    """Use one generator for the process, as `numpy.random.seed` at the start makes it."""
    rng = np.random.default_rng(0)

    def draw(self: DiscreteGaussian, bounded: Bounded) -> NDArray[np.int64]:
        return bounded.value + np.round(rng.normal(0, self.sigma, bounded.dimension)).astype(np.int64)

    patch.setattr(DiscreteGaussian, "draw", draw)


def forget_the_bound(patch: Patch) -> None:
    """Add votes up as they are, and pretend that they are bounded."""

    def bounded_sum(
        client: Any, coordinate: Any, weight: Any, *, dimension: int, norm_squared: Fraction, **_: Any
    ) -> Bounded:
        grid, bound = grid_for(norm_squared)
        total = np.bincount(coordinate, weights=weight, minlength=dimension).astype(float)
        return Bounded((total / grid).astype(np.int64), grid, bound, nonnegative=True)

    patch.setattr("pretext.clients.voting.bounded_sum", bounded_sum)
