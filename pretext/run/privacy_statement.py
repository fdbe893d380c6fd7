"""The privacy statement as a value: what privacy.json holds, and what everybody else reads of it.

`pretext.statement.statement` makes it from the ledger; the page to sign, the report, the dataset card and the command
line only read it. A loss without a finite bound is infinity here and null in the file, as JSON has no infinity.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, TypeAdapter, ValidationError

from pretext.errors import RunFolderError
from pretext.files import replace_nonfinite
from pretext.formatting import quote_path
from privacy import Budget

STATEMENT_FILE = "privacy.json"
FORMAT: Literal["pretext privacy statement, version 1"] = "pretext privacy statement, version 1"

Loss = Annotated[float, Field(ge=0), BeforeValidator(lambda value: math.inf if value is None else value)]
"""An epsilon; infinite where no finite one holds at its delta."""
Delta = Annotated[float, Field(gt=0, lt=1)]
"""A probability that bounds what epsilon does not."""


@dataclass(frozen=True)
class Guarantee:
    """What the releases of a run come to at most under one relation, by the exact curve and by Renyi accounting.

    It was fixed by the settings before the first release, and holds whenever and wherever the run stops.
    """

    unit: str
    relation: str
    epsilon: Loss
    delta: Delta
    epsilon_by_renyi_accounting: Loss


@dataclass(frozen=True)
class UnitOfProtection:
    """Who is protected: the unit's name, its column if it has one, and a sentence for people who sign."""

    name: str
    column: str | None
    words: str


@dataclass(frozen=True)
class Neighbors:
    """Against which change of the dataset: the relation's name, and a sentence for people who sign."""

    name: str
    words: str


@dataclass(frozen=True)
class Rounds:
    """Rounds: how many the settings plan, how many the ledger has released, and of what."""

    planned: NonNegativeInt
    released: NonNegativeInt
    release: Literal["votes", "profile"]


@dataclass(frozen=True)
class StatedRelease:
    """A release with all that its cost follows from.

    Attributes:
        label: its name in the ledger.
        subject_sha256: digest of the public question that it answers.
        mechanism: name of the noise.
        coordinates: of the released sum.
        noise_standard_deviation, l2_sensitivity: both in the query's own unit (votes).
        noise_multiplier: the first over the second.
        grid: step of the noise.
        mu_squared, slack: the cost (`privacy.Cost`).
        time: when it was drawn, in UTC.
        code: the program that drew it.
    """

    label: str
    subject_sha256: str
    mechanism: str
    coordinates: NonNegativeInt
    noise_standard_deviation: NonNegativeFloat
    l2_sensitivity: NonNegativeFloat
    noise_multiplier: NonNegativeFloat
    grid: NonNegativeFloat
    mu_squared: NonNegativeFloat
    slack: NonNegativeFloat
    time: str
    code: str


@dataclass(frozen=True)
class VoteBounding:
    """How a client's votes are bounded.

    Attributes:
        max_texts_per_client: texts that vote, at most.
        choice: how they are chosen where there are more.
        vote_norm: largest L2 norm of a client's votes.
        normalized: whether smaller votes are scaled up to it.
        labels: how the bound extends over labels; None without labels.
    """

    max_texts_per_client: NonNegativeInt
    choice: str
    vote_norm: float
    normalized: bool
    labels: str | None

    @property
    def words(self) -> str:
        """What one unit counts with."""
        return (
            f"with {self.max_texts_per_client} texts at most, and a vote vector of Euclidean length "
            f"{self.vote_norm:.4g} at most"
        )


@dataclass(frozen=True)
class ProfileBounding:
    """How a client's profile is bounded.

    Attributes:
        max_texts_per_client: texts that are counted, at most.
        choice: how they are chosen where there are more.
        vector: what a client gives, and its norm.
        labels: how the bound extends over labels; None without labels.
    """

    max_texts_per_client: int
    choice: str
    vector: str
    labels: str | None

    @property
    def words(self) -> str:
        """What one unit counts with."""
        return f"with {self.max_texts_per_client} texts at most, and {self.vector}"


@dataclass(frozen=True)
class MomentBounding:
    """How a client's moments are bounded.

    Attributes:
        max_texts_per_client: texts in the means, at most.
        vector: what a client gives, and its norm.
        clients: whether their number is public or a part of the release.
    """

    max_texts_per_client: NonNegativeInt
    vector: str
    clients: str


@dataclass(frozen=True)
class Accounting:
    """How releases are added up, and where the proof is."""

    curve: str
    composition: str
    proof: str


@dataclass(frozen=True)
class RunCharge:
    """What a run was charged: its own epsilon, and the reading of the dataset after it; at the budget's delta."""

    time: str
    run: str
    releases: NonNegativeInt
    epsilon: Loss
    spent_epsilon: Loss


@dataclass(frozen=True)
class DatasetAccount:
    """All that was ever released from the dataset, as the ledger stood when the statement was made.

    Attributes:
        name: of the dataset.
        unit, relation: those of the budget.
        budget: the most that may ever be spent.
        spent_epsilon: by all releases together; a reading, no guarantee: that is the budget.
        reserved_epsilon: by runs that are not finished.
        left_epsilon: what one more run may spend.
        releases: their number.
        history: the runs in the order of their last releases.
        ledger: path of its file.
        ledger_position, ledger_head_sha256: its last entry.
    """

    name: str
    unit: str
    relation: str
    budget: Budget
    spent_epsilon: Loss
    reserved_epsilon: Loss
    left_epsilon: NonNegativeFloat
    releases: NonNegativeInt
    history: tuple[RunCharge, ...]
    ledger: str
    ledger_position: NonNegativeInt
    ledger_head_sha256: str


@dataclass(frozen=True, kw_only=True)
class PrivacyStatement:
    """What a run, or one question of FreD, released: under which guarantee, and what is not covered.

    Attributes:
        run: id of the run folder.
        guarantee: under the relation of the settings.
        other_relation: the same under the other relation.
        reading_epsilon: what the releases made so far add up to under the relation of the settings. In a run that
            stopped early it is no guarantee: stopping may depend on what was released.
        unit: who is protected.
        relation: against which change of the dataset.
        rounds: None in a FreD folder, which holds no votes.
        releases: in the order of the ledger.
        bounding: what one unit can contribute.
        accountant: how the releases are added up.
        dataset: what was ever released from the dataset.
        not_covered: a sentence for everything that the guarantee leaves open.
    """

    format: Literal["pretext privacy statement, version 1"] = FORMAT
    run: str
    guarantee: Guarantee
    other_relation: Guarantee
    reading_epsilon: Loss
    unit: UnitOfProtection
    relation: Neighbors
    rounds: Rounds | None
    releases: tuple[StatedRelease, ...]
    bounding: VoteBounding | ProfileBounding | MomentBounding
    accountant: Accounting
    dataset: DatasetAccount
    not_covered: tuple[str, ...]

    def to_json(self) -> str:
        """Write the statement as privacy.json holds it: an indented object, with null for infinity."""
        return json.dumps(replace_nonfinite(asdict(self)), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, path: Path) -> PrivacyStatement:
        """Read what `to_json` wrote, from the file `path`.

        Raises:
            RunFolderError: the text is damaged, or lacks a part; the message names file and part.
        """
        try:
            return _STATEMENT.validate_json(text, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            part = ".".join(map(str, first["loc"]))
            raise statement_error(path, f" ({part or 'JSON'}: {first['msg']})") from None


def statement_error(path: Path, reason: str = "") -> RunFolderError:
    """Say that a folder lacks a whole statement, why, and how to get one."""
    return RunFolderError(
        f"{path.parent} holds no whole {path.name}{reason}; "
        f"`pretext resume {quote_path(path.parent)}`, or the same `pretext fred` "
        "again, writes it at no cost."
    )


_STATEMENT = TypeAdapter(PrivacyStatement)
