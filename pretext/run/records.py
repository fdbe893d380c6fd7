"""What a run folder holds, as values; the privacy statement is in `pretext.run.privacy_statement`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt

OriginKind = Literal["public", "prompt", "guided", "adapted", "kept", "variation", "again"]


@dataclass(frozen=True)
class Origin:
    """Where a candidate comes from.

    Attributes:
        kind: a text of a public source; written from a prompt; written after a release, by the generator as it was or
            adapted; a survivor kept unchanged; a variation of a parent; or one of the round before, carried over as it
            was because no variation passed the screening.
        number: of the public source (0 for what was written), or the row in the population of the round before.
    """

    kind: OriginKind
    number: int


@dataclass(frozen=True)
class Candidate:
    """One candidate text; `label` is its position in the list of labels, 0 without labels."""

    text: str
    label: int = 0
    origin: Origin | None = field(default=None, compare=False)

    def carry_over(self, kind: Literal["kept", "again"], row: int) -> Candidate:
        """Return the same candidate for the next round, from this row of the last one."""
        return replace(self, origin=Origin(kind, row))


def digest_population(population: Sequence[Candidate]) -> str:
    """Compute the digest (SHA-256) that a release of votes over this population is bound to."""
    rows = json.dumps([[candidate.text, candidate.label] for candidate in population])
    return hashlib.sha256(rows.encode()).hexdigest()


@dataclass(frozen=True)
class Seed:
    """A survivor that seeds the expansion; `votes` are its noisy votes in `round`; it is shown in proportion to
    `weight`."""

    text: str
    label: int
    round: int
    votes: float
    weight: float


@dataclass(frozen=True)
class SeedLine:
    """A seed as seeds.jsonl lists it for people; without labels, `label` is None."""

    text: str
    round: int
    votes: float
    label: str | None = None


def format_seed(seed: Seed, labels: Sequence[str]) -> str:
    """Write a seed as a line of seeds.jsonl; see `SeedLine`."""
    named = {"label": labels[seed.label]} if labels else {}
    return json.dumps(
        {"text": seed.text, **named, "round": seed.round, "votes": round(seed.votes, 3)}, ensure_ascii=False
    )


@dataclass(frozen=True)
class Selection:
    """A round's released votes (`noisy`, noise `sigma`) and the row numbers that were selected by them."""

    noisy: list[float]
    sigma: float
    threshold: float
    survivors: list[int]
    weights: list[float]
    parents: list[int]


@dataclass(frozen=True)
class ExpansionState:
    """How far the expansion got: finished chunks, texts written, bytes of the part in progress, texts dropped by
    reason."""

    chunks: NonNegativeInt
    kept: NonNegativeInt
    size: NonNegativeInt
    dropped: dict[str, NonNegativeInt]


@dataclass(frozen=True)
class Phase:
    """What a phase of a run took so far: seconds, and tokens that the generator read and wrote in it."""

    seconds: NonNegativeFloat = 0.0
    read: NonNegativeInt = 0
    written: NonNegativeInt = 0

    def __add__(self, other: Phase) -> Phase:
        return Phase(self.seconds + other.seconds, self.read + other.read, self.written + other.written)

    def __mul__(self, times: float) -> Phase:
        return Phase(self.seconds * times, round(self.read * times), round(self.written * times))
