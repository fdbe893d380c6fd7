"""Programs that break their promise, each by one change. An audit must tell every one of them from the real one.

They live with the tests, not in the package: code that takes the guarantee away has no place where private data are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pretext.clients.nearest import snap_to_grid
from privacy import Bounded, Cost, DiscreteGaussian, Ledger, Release, bounded_sum, grid_for

_bounded_sum = bounded_sum
_draw, _cost, _release = DiscreteGaussian.draw, DiscreteGaussian.cost, Ledger.release
Patch = pytest.MonkeyPatch


def half_the_noise(patch: Patch) -> None:
    def draw(self: DiscreteGaussian, bounded: Bounded) -> NDArray[np.int64]:
        return _draw(DiscreteGaussian(self.sigma / 2, self.grid), bounded)

    patch.setattr(DiscreteGaussian, "draw", draw)


def no_clipping(patch: Patch) -> None:
    def bounded_sum(
        client: Any, coordinate: Any, weight: Any, *, dimension: int, norm_squared: Fraction, **_: Any
    ) -> Bounded:
        grid, bound = grid_for(norm_squared)
        total = np.bincount(coordinate, weights=weight, minlength=dimension).astype(float)
        return Bounded((total / grid).astype(np.int64), grid, bound, nonnegative=True)

    patch.setattr("pretext.clients.voting.bounded_sum", bounded_sum)


def clipped_after_the_sum(patch: Patch) -> None:
    def bounded_sum(
        client: Any, coordinate: Any, weight: Any, *, dimension: int, norm_squared: Fraction, **_: Any
    ) -> Bounded:
        grid, bound = grid_for(norm_squared)
        total = np.bincount(coordinate, weights=weight, minlength=dimension).astype(float)
        total *= min(1.0, float(norm_squared) ** 0.5 / max(float(np.linalg.norm(total)), 1e-9))
        return Bounded((total / grid).astype(np.int64), grid, bound, nonnegative=True)

    patch.setattr("pretext.clients.voting.bounded_sum", bounded_sum)


def scaled_up_too_far(patch: Patch) -> None:
    """Only where clients are scaled up to the bound, as they are by default."""

    def bounded_sum(*arguments: Any, normalize: bool = False, **named: Any) -> Bounded:
        right = _bounded_sum(*arguments, normalize=normalize, **named)
        return dataclasses.replace(right, value=2 * right.value) if normalize else right

    patch.setattr("pretext.clients.voting.bounded_sum", bounded_sum)


def seeded_noise(patch: Patch) -> None:
    def draw(self: DiscreteGaussian, bounded: Bounded) -> NDArray[np.int64]:
        noise = np.random.default_rng(0).normal(0, self.sigma, bounded.dimension)
        return bounded.value + np.round(noise).astype(np.int64)

    patch.setattr(DiscreteGaussian, "draw", draw)


def noise_seeded_once(patch: Patch) -> None:
    """One generator for the process, as `numpy.random.seed` at the start makes it."""
    rng = np.random.default_rng(0)

    def draw(self: DiscreteGaussian, bounded: Bounded) -> NDArray[np.int64]:
        return bounded.value + np.round(rng.normal(0, self.sigma, bounded.dimension)).astype(np.int64)

    patch.setattr(DiscreteGaussian, "draw", draw)


def a_replay_that_draws_again(patch: Patch) -> None:
    def release(self: Ledger, *arguments: Any) -> Release:
        first = _release(self, *arguments)
        _, _, _, bounded, mechanism, _ = arguments
        return dataclasses.replace(first, value=mechanism.draw(bounded))

    patch.setattr(Ledger, "release", release)


def epsilon_of_another_sigma(patch: Patch) -> None:
    def cost(self: DiscreteGaussian, dimension: int, squared_sensitivity: int) -> Cost:
        return _cost(DiscreteGaussian(2 * self.sigma, self.grid), dimension, squared_sensitivity)

    patch.setattr(DiscreteGaussian, "cost", cost)


def ties_left_to_faiss(patch: Patch) -> None:
    """What this program did once: which of two equally near candidates gets a vote hung on how many texts came."""

    def nearest(points: Any, queries: Any, q: int, rows: Any = None) -> NDArray[np.int64]:
        import faiss

        index = faiss.IndexFlatIP(points.shape[1])
        index.add(snap_to_grid(points))
        return index.search(snap_to_grid(queries if rows is None else queries[rows]), min(q, len(points)))[1]

    patch.setattr("pretext.clients.voting.find_nearest", nearest)


def replacement_at_the_price_of_removal(patch: Patch) -> None:
    """Of use against replace-one alone."""
    for module in ("privacy.bounding", "privacy.mechanisms", "privacy.account", "pretext.calibration"):
        patch.setattr(f"{module}.sensitivity_squared", lambda norm_squared, nonnegative, relation: norm_squared)


def no_noise(patch: Patch) -> None:
    patch.setattr(DiscreteGaussian, "draw", lambda self, bounded: bounded.value)


MUTANTS: list[Callable[[Patch], None]] = [
    half_the_noise,
    no_clipping,
    clipped_after_the_sum,
    scaled_up_too_far,
    seeded_noise,
    noise_seeded_once,
    a_replay_that_draws_again,
    epsilon_of_another_sigma,
    ties_left_to_faiss,
    replacement_at_the_price_of_removal,
]
