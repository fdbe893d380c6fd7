"""What `pretext evaluate` measured: the value, its JSON file, and the report's tables of it.

Every number comes from private texts without noise, so the guarantee does not cover it. Each part of the file says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from pretext.errors import UsageError

NOT_COVERED = (
    "NOT covered by the guarantee: every number here is measured on private texts without noise. Do not publish it."
)
BEFORE: Final = "before"
INITIAL: Final = "initial"
SYNTHETIC: Final = "synthetic"
PRIVATE: Final = "private"
HELD_OUT: Final = "held out"
SetName = Literal["before", "initial", "synthetic", "private", "held out"]
SET_TITLES: dict[SetName, str] = {
    BEFORE: "before training",
    INITIAL: "initial population (epsilon 0)",
    SYNTHETIC: "synthetic texts",
    PRIVATE: "private texts (epsilon infinity)",
    HELD_OUT: "held-out private texts",
}
SCORE_TITLES = {
    "top1": "top-1",
    "top3": "top-3",
    "top5": "top-5",
    "cross_entropy": "nats/token",
    "bits_per_byte": "bits/byte",
}
METRIC_TITLES = {
    "frechet": "Frechet",
    "mauve": "MAUVE",
    "precision": "precision",
    "recall": "recall",
    "cluster_coverage": "clusters",
    "classifier_transfer": "classifier",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "distinct_3": "distinct-3",
    "self_bleu": "self-BLEU",
    "duplicate_rate": "duplicates",
}


@dataclass(frozen=True)
class Guarantee:
    """What covers the synthetic texts themselves. An infinite epsilon is None, as JSON has no infinity."""

    epsilon: float | None
    delta: float
    unit: str
    relation: str


@dataclass(frozen=True)
class StudentSettings:
    """Which student learned, how many tokens of a text it reads at most, and how often it was trained."""

    name: str
    max_tokens: int
    repetitions: int


@dataclass(frozen=True)
class Estimate:
    """The mean over repetitions, its interval, and the single values; None where one is not defined."""

    mean: float | None
    interval: tuple[float, float] | None
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class ScoreEstimates:
    """An estimate of every kind of score (`pretext.evaluation.student.Score`), or of the gap closed in it."""

    top1: Estimate
    top3: Estimate
    top5: Estimate
    cross_entropy: Estimate
    bits_per_byte: Estimate
    covered_by_guarantee: Literal[False] = field(default=False, init=False)


@dataclass(frozen=True)
class SetMetrics:
    """The metrics of one set of texts (`pretext.evaluation.metrics`); None where one is not defined.

    The first six compare the set with the held-out texts, so the held-out texts have none of them.
    """

    distinct_1: float | None
    distinct_2: float | None
    distinct_3: float | None
    self_bleu: float | None
    duplicate_rate: float | None
    frechet: float | None = None
    mauve: float | None = None
    precision: float | None = None
    recall: float | None = None
    cluster_coverage: float | None = None
    classifier_transfer: float | None = None
    covered_by_guarantee: Literal[False] = field(default=False, init=False)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How good a run's synthetic texts are, measured on held-out private texts.

    Attributes:
        run: the run's id.
        guarantee_of_the_synthetic_texts: from the run's privacy statement; None if it has none yet.
        student: what learned from the texts.
        confidence: of all intervals.
        scores: of students on the held-out texts, by what they learned from.
        gap_closed: where the synthetic texts stand, 0 for the initial population and 1 for the private texts; None if
            no private texts were learned from.
        metrics: by set, on samples of one size.
    """

    notice: str = NOT_COVERED
    covered_by_guarantee: Literal[False] = field(default=False, init=False)
    run: str
    guarantee_of_the_synthetic_texts: Guarantee | None
    student: StudentSettings
    confidence: float
    scores: dict[SetName, ScoreEstimates]
    gap_closed: ScoreEstimates | None
    metrics: dict[SetName, SetMetrics]

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read what `to_json` wrote. Raises ValueError for anything else; its message names the place."""
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(": ".join([*map(str, first["loc"]), first["msg"]])) from None

    def to_json(self) -> str:
        """Write the evaluation as an indented JSON object."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)


def read_evaluation(path: Path, run: str) -> Evaluation:
    """Read the file of an evaluation.

    Raises:
        UsageError: the file is missing, is not what `pretext evaluate` writes, or is about another run than `run`.
    """
    try:
        evaluation = Evaluation.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}; give the JSON file that `pretext evaluate` wrote.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is no evaluation, or a damaged one ({error}); give the JSON file that `pretext evaluate` wrote."
        ) from None
    if evaluation.run != run:
        raise UsageError(
            f"The evaluation {path} is of run {evaluation.run}, not of this one, {run}; evaluate this one."
        )
    return evaluation


@dataclass(frozen=True)
class Table:
    """A title, the titles of columns if they have any, and rows of cells."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def tabulate_evaluation(evaluation: Evaluation) -> list[Table]:
    """Lay an evaluation out as the report's tables; the report itself says that no number is covered."""
    student = evaluation.student
    tables = [
        Table(
            "Evaluation",
            [],
            [
                ["run", evaluation.run],
                ["student", student.name],
                ["repetitions", str(student.repetitions)],
                ["most tokens of a text", str(student.max_tokens)],
                ["confidence of intervals", f"{evaluation.confidence:.0%}"],
            ],
        ),
        _tabulate_sets("Scores on held-out texts", evaluation.scores, SCORE_TITLES),
    ]
    if (gaps := evaluation.gap_closed) is not None:
        rows = [[title, _format_cell(getattr(gaps, kind))] for kind, title in SCORE_TITLES.items()]
        tables.append(Table("Gap closed", [], rows))
    return [*tables, _tabulate_sets("Metrics", evaluation.metrics, METRIC_TITLES)]


def _tabulate_sets(
    title: str, sets: Mapping[SetName, ScoreEstimates] | Mapping[SetName, SetMetrics], columns: Mapping[str, str]
) -> Table:
    rows = [
        [SET_TITLES[name], *(_format_cell(getattr(values, column)) for column in columns)]
        for name, values in sets.items()
    ]
    return Table(title, ["", *columns.values()], rows)


def _format_cell(value: Estimate | float | None) -> str:
    match value:
        case None:
            return ""
        case Estimate(mean, (low, high)):
            return f"{_format_cell(mean)} ({_format_cell(low)} to {_format_cell(high)})".replace(" ", "\u00a0")
        case Estimate(mean):
            return _format_cell(mean)
        case float():
            return f"{value:.4g}"
