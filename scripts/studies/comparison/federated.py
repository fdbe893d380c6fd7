"""Train on federated clients with noise: DP-FedAvg (McMahan et al. 2018) and DP-FTRL (Kairouz et al. 2021).

A model is a flat vector here; what a client does with it is a function. One loop serves both methods: they differ in
who takes part in a step (`poisson_cohorts`, `epoch_cohorts`) and in how the noise of the steps hangs together
(`white_noise`, `tree_noise`).

**A simulation for comparison.** The noise comes from a numpy generator in floating point, and no ledger charges it. The
trained models must not be released.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
_SECOND_DECAY, _SMALL = 0.99, 1e-8
Update = Callable[[Vector, int], Vector]
"""(the model, a client) -> how the client's local training changes it."""


@dataclass(frozen=True)
class Server:
    """What the server does with the clients' updates.

    Attributes:
        clip: L2 norm to which every client's update is cut.
        learning_rate: of the mean update.
        momentum: share of the last step that is taken again.
        cohort: expected number of clients in a step. Public: the mean is over it, as the real number is private.
        adaptive: divide each coordinate's step by the root of its mean square so far (Adam, Kingma and Ba 2015).
    """

    clip: float
    learning_rate: float
    momentum: float
    cohort: float
    adaptive: bool = False


def train_federated(
    start: Vector, cohorts: Iterable[NDArray[np.int64]], noises: Iterator[Vector], update: Update, server: Server
) -> Vector:
    """Return the model after all steps: clip every client's update, sum, add the step's noise, divide by the expected
    cohort, take a step with momentum or Adam.

    Args:
        start: shape (d,), the public model to begin with.
        cohorts: the clients of each step.
        noises: noise of each step's sum, in units of the clip norm.
    """
    model = start.copy()
    take_step = _Adam(server) if server.adaptive else _Momentum(server)
    for cohort, noise in zip(cohorts, noises, strict=False):
        total = server.clip * noise
        for client in cohort.tolist():
            total += clip_update(update(model, client), server.clip)
        model = model + np.float32(server.learning_rate) * take_step(total / np.float32(server.cohort))
    return model


class _Momentum:
    """Adds a share of the last direction to each mean update."""

    def __init__(self, server: Server) -> None:
        self._momentum = server.momentum
        self._velocity: Vector | np.float32 = np.float32(0)

    def __call__(self, mean: Vector) -> Vector:
        self._velocity = self._momentum * self._velocity + mean
        return np.asarray(self._velocity)


class _Adam:
    """Averages mean updates and their squares, both corrected for their start at zero, and divides."""

    def __init__(self, server: Server) -> None:
        self._first_decay, self._second_decay = server.momentum, _SECOND_DECAY
        self._first: Vector | np.float32 = np.float32(0)
        self._second: Vector | np.float32 = np.float32(0)
        self._steps = 0

    def __call__(self, mean: Vector) -> Vector:
        self._steps += 1
        self._first = self._first_decay * self._first + (1 - self._first_decay) * mean
        self._second = self._second_decay * self._second + (1 - self._second_decay) * mean**2
        first = self._first / (1 - self._first_decay**self._steps)
        second = self._second / (1 - self._second_decay**self._steps)
        return np.asarray(first / (np.sqrt(second) + np.float32(_SMALL)), dtype=np.float32)


def clip_update(update: Vector, norm: float) -> Vector:
    """Scale an update down to L2 norm `norm` where it is longer; one that is not finite counts as zero.

    All is computed in double precision, where the factor of the longest update is still exact; the scaled vector is
    kept a hair below the bound, for float32's rounding.
    """
    exact = update.astype(np.float64)
    length = float(np.linalg.norm(exact))
    if not np.isfinite(length):
        return np.zeros_like(update)
    return update if length <= norm else (exact * (norm / length * (1 - 1e-6))).astype(np.float32)


def poisson_cohorts(clients: int, rate: float, rounds: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield cohorts in which each client joins each round with chance `rate`, independently."""
    for _ in range(rounds):
        yield np.flatnonzero(rng.random(clients) < rate)


def epoch_cohorts(clients: int, count: int, steps: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield cohorts in which each client joins one step of every epoch; nobody's presence moves another's step."""
    for _ in range(count):
        step = rng.integers(steps, size=clients)
        yield from (np.flatnonzero(step == number) for number in range(steps))


def white_noise(multiplier: float, dimension: int, rng: np.random.Generator) -> Iterator[Vector]:
    """Yield fresh noise of standard deviation `multiplier` for every step."""
    while True:
        yield multiplier * rng.standard_normal(dimension, np.float32)


def tree_noise(multiplier: float, dimension: int, steps: int, rng: np.random.Generator) -> Iterator[Vector]:
    """Yield noise whose sum over the first t steps is that of the tree nodes that make up [0, t); a new tree every
    `steps` steps.

    Each value is the difference of two such sums: the noise of single steps cancels in the sum of many, and a model is
    such a sum.
    """
    while True:
        nodes: dict[int, Vector] = {}
        before = np.zeros(dimension, np.float32)
        for step in range(1, steps + 1):
            # The nodes of the prefix [0, step) are the ones of its binary representation; a carry merges the lower.
            level = (step & -step).bit_length() - 1
            nodes = {height: noise for height, noise in nodes.items() if height > level}
            nodes[level] = multiplier * rng.standard_normal(dimension, np.float32)
            total = np.stack(list(nodes.values())).sum(axis=0)
            yield total - before
            before = total
