"""The noise of one ledger, jointly: nothing in it can be told from anything else in it.

Where two noises are equal, opposite, or one tells of the other, their difference or sum shows the private values below
them, although each alone has the right law. So all pairs of coordinates and of releases are compared: of one dataset,
of several, and with the ledger opened anew.

Law. For independent Gaussian vectors x, y of length n the correlation r = <x, y> / |x||y| satisfies
r^2 ~ Beta(1/2, (n-1)/2). Each test rejects independent noise with probability at most 1e-6, over all of its pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from privacy import Bounded, Budget, DiscreteGaussian, Ledger, Relation, Unit

Floats = NDArray[np.float64]
ALPHA = 1e-6
RELEASES, COORDINATES = 64, 64
NOISE = DiscreteGaussian(2.0**49, 1.0)
"""So wide that no two of all values are equal or opposite, but with a chance below 1e-7."""


def draw_all(folder: Path) -> Floats:
    """Draw the noise of many labels, rounds and FreD, of two datasets, in units of sigma: shape (releases, n)."""
    zero = Bounded(np.zeros(COORDINATES, np.int64), NOISE.grid, 1, nonnegative=True)
    rows = []
    for number in range(RELEASES):
        if number % (RELEASES // 4) == 0:  # the next dataset, then both of them after a restart
            ledger, name = Ledger(folder / "ledger.sqlite"), f"dataset {number // (RELEASES // 4) % 2}"
            ledger.register(name, name, Unit("user"), Relation.ADD_REMOVE, Budget(1.0, 1e-6))
        label = f"run {number % 3}/votes/{number // 3}" if number % 4 else f"fred/{number}"
        release = ledger.release(name, f"{label}/{number}", "digest", zero, NOISE, Relation.ADD_REMOVE)
        rows.append(release.value / NOISE.sigma)
    return np.array(rows)


def dependent(noise: Floats) -> list[str]:
    """Name the ways in which the noise depends on itself."""
    found = [name for name, rows in (("releases", noise), ("coordinates", noise.T)) if correlated(rows)]
    halves = np.split(noise, 2, axis=1)
    if correlated(np.vstack([halves[0], halves[1][:, ::-1]])):
        found.append("halves")
    if np.unique(np.abs(noise)).size < noise.size:
        found.append("equal or opposite values")
    return found


def correlated(rows: Floats) -> bool:
    """Whether any two of the rows are."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    i, j = np.triu_indices(len(rows), 1)
    largest = float(np.square((unit @ unit.T)[i, j]).max())
    return bool(stats.beta.sf(largest, 0.5, (rows.shape[1] - 1) / 2) * i.size < ALPHA / 3)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Floats:
    return draw_all(tmp_path_factory.mktemp("joint"))


def test_noise__all_pairs_of_one_ledger__are_independent(noise: Floats) -> None:
    assert noise.shape == (RELEASES, COORDINATES)
    assert dependent(noise) == []


def drift(noise: Floats) -> Floats:
    """Let nine tenths of each release's noise be that of the release before."""
    rows = [noise[0]]
    for fresh in noise[1:]:
        rows.append(0.9 * rows[-1] + 0.19**0.5 * fresh)
    return np.array(rows)


BROKEN: dict[str, Callable[[Floats], Floats]] = {
    "tiled": lambda noise: np.tile(noise[:, : COORDINATES // 2], 2),
    "antithetic": lambda noise: np.hstack([noise[:, : COORDINATES // 2], -noise[:, : COORDINATES // 2]]),
    "mirrored": lambda noise: np.hstack([noise[:, : COORDINATES // 2], noise[:, : COORDINATES // 2][:, ::-1]]),
    "one value for all coordinates": lambda noise: np.repeat(noise[:, :1], COORDINATES, axis=1),
    "the same in every release": lambda noise: np.tile(noise[:1], (RELEASES, 1)),
    "the same in the last release": lambda noise: np.vstack([noise[:-1], noise[:1]]),
    "moved by one coordinate": lambda noise: np.vstack([noise[:-1], np.roll(noise[:1], 1)]),
    "a drift over releases": drift,
    "two coordinates share most": lambda noise: np.hstack([noise[:, :-1], noise[:, :1] + 0.1 * noise[:, -1:]]),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_noise__dependent__is_noticed(broken: str, noise: Floats) -> None:
    assert dependent(BROKEN[broken](noise))
