"""The events in the life of a dataset.

An event is a fact with its time: the dataset was registered, read from a source, given another budget; a run reserved
its cost; a noisy value was released; a run folder was sealed. Nothing else ever happens to a dataset. The kinds are a
closed union, `Event`; whatever treats them apart ends in `assert_never`, so that mypy names each place that a new kind
concerns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.accounting import LEAST_DELTA, Cost, check_delta, check_epsilon
from privacy.bounding import sensitivity_squared
from privacy.errors import InvalidParameter
from privacy.mechanisms import DiscreteGaussian
from privacy.units import Relation, Unit


@dataclass(frozen=True)
class Budget:
    """The most that may ever be spent on a dataset.

    Raises:
        InvalidParameter: epsilon or delta is outside the range in which a budget can be enforced.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_delta(self.delta)
        if self.delta < LEAST_DELTA:
            raise InvalidParameter(f"The budget's delta is {self.delta}; it must be at least {LEAST_DELTA:g}.")


@dataclass(frozen=True)
class Registration:
    """The first event of every dataset: who is protected, against what, and how much may be spent.

    A later one, before anything was released, starts the account anew.
    """

    KIND: ClassVar = "registration"
    unit: Unit
    relation: Relation
    budget: Budget
    time: str


@dataclass(frozen=True)
class Source:
    """A place from which the dataset is read.

    Attributes:
        path: the place.
        file: what identifies the file there under any name (device and inode); empty where it is no file.
        time: when, in UTC.
    """

    KIND: ClassVar = "source"
    path: str
    file: str
    time: str


@dataclass(frozen=True)
class BudgetChange:
    """A new budget in place of the old one."""

    KIND: ClassVar = "budget"
    budget: Budget
    time: str


@dataclass(frozen=True)
class Reservation:
    """What a run may still draw, in place of what it had reserved before; nothing, where it gives the rest back.

    Attributes:
        run: its releases have labels that begin with it.
        cost: of the releases still to come, at most, under the account's relation.
        unit: whom the run protects.
        folder: where the run lies, for people.
        time: when, in UTC.
    """

    KIND: ClassVar = "reservation"
    run: str
    cost: Cost
    unit: Unit
    folder: str
    time: str


@dataclass(frozen=True)
class Release:
    """A noisy value that left the ledger, with everything its cost is computed from.

    Attributes:
        label: its name within the dataset; there is one release for each.
        subject: digest of the public question that it answers.
        mechanism: the noise that was drawn.
        norm_squared: the largest squared norm of one client, in squared grid steps.
        nonnegative: whether every client's vector was entrywise non-negative.
        relation: the one that the noise was calibrated for.
        value: the noisy sum, shape (n,), int64, in grid steps.
        time: when, in UTC.
        code: the program that drew it.
    """

    KIND: ClassVar = "release"
    label: str
    subject: str
    mechanism: DiscreteGaussian
    norm_squared: int
    nonnegative: bool
    relation: Relation
    value: NDArray[np.int64]
    time: str
    code: str

    @property
    def dimension(self) -> int:
        """Number of coordinates n."""
        return int(self.value.shape[0])

    @property
    def noisy(self) -> NDArray[np.float64]:
        """The noisy sum in the query's own unit (votes), shape (n,)."""
        return self.value.astype(np.float64) * self.mechanism.grid

    def cost(self, relation: Relation) -> Cost:
        """Compute what this release costs under `relation`, from the mechanism that drew it."""
        return self.mechanism.cost(self.dimension, sensitivity_squared(self.norm_squared, self.nonnegative, relation))


@dataclass(frozen=True)
class Seal:
    """The digest of a run folder's manifest, as it was when the run was finished.

    Attributes:
        run: the folder's.
        manifest: the digest.
        time: when it was sealed, or opened again, in UTC.
        opened: the folder was opened again to be continued: until the next seal, what the work writes may differ.
        accepted: the files that somebody had changed, where their change was accepted when it was opened.
    """

    KIND: ClassVar = "seal"
    run: str
    manifest: str
    time: str
    opened: bool = False
    accepted: tuple[str, ...] = ()


Event = Registration | Source | BudgetChange | Reservation | Release | Seal


def run_of(label: str) -> str:
    """Return the run that a label belongs to: what stands before its first slash."""
    return label.partition("/")[0]
