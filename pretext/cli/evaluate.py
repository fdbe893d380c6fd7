"""The command `pretext evaluate`: how good a run's synthetic texts are, on private texts that it never saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pretext.cli.options import json_option
from pretext.cli.output import print_result

if TYPE_CHECKING:
    from pretext.config.settings import Data
    from pretext.evaluation.student import CausalStudent, Student
    from pretext.lazy import Once
    from pretext.report.evaluation import Evaluation, Guarantee, ScoreEstimates, SetName


@click.command(short_help="Measure a run's texts on held-out private ones. NOT private.")
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--test", required=True, help="Held-out private texts: a file or Hugging Face dataset id.")
@click.option("--train", help="The private texts that the run saw, to measure what no privacy would give.")
@click.option("--text-column", help="Column with the text in both; default: the run's.")
@click.option("--client-column", help="Column that tells clients apart in both; default: the run's.")
@click.option("--student", default="tiny", show_default=True, help="tiny, embedded, or a model by folder or hub name.")
@click.option("--lora", type=click.IntRange(min=1), help="Train adapters of this rank only (extra `adapt`).")
@click.option("--repetitions", type=click.IntRange(min=1), default=3, show_default=True, help="Students per set.")
@click.option("--tokens", type=click.IntRange(min=1), help="Tokens that a student learns from; default: its own.")
@click.option("--texts", type=click.IntRange(min=2), default=2000, show_default=True, help="Most texts to score.")
@click.option("--out", type=click.Path(path_type=Path), default="evaluation.json", show_default=True, help="JSON file.")
@click.option("--force-overlap", is_flag=True, help="Do not check that the run saw none of the tested clients.")
@json_option
def evaluate(folder: Path, test: str, train: str | None, out: Path, as_json: bool, **flags: Any) -> None:
    """Measure a run on held-out private texts. The numbers are NOT covered by the guarantee."""
    from pretext.evaluation.evaluate import EvaluationSettings, evaluate_run
    from pretext.lazy import Once
    from pretext.models.embedder import SentenceEmbedder
    from pretext.run.folder import Run

    _, config = Run.open(folder)
    _check_output(out, folder)
    columns = {name: flags[name] or getattr(config.data, name) for name in ("text_column", "client_column")}
    settings = EvaluationSettings(
        _locate_data(config.data, test, columns),
        _locate_data(config.data, train, columns) if train else None,
        flags["repetitions"],
        flags["tokens"],
        flags["texts"],
        allow_overlap=flags["force_overlap"],
    )
    student: Once[Student] = Once(lambda: _prepare_student(flags["student"], flags["lora"], config.speed.device))
    evaluation = evaluate_run(
        folder, settings, student, Once(lambda: SentenceEmbedder.from_sections(config.models, config.speed))
    )
    try:
        _write_evaluation(out, evaluation)
    finally:  # what took long to measure is shown even where the file's folder went away
        print_result(evaluation.to_json() if as_json else format_evaluation(evaluation))


def _locate_data(data: Data, location: str, columns: Mapping[str, str | None]) -> Data:
    """Describe a file that is read as the run reads its own."""
    from pretext.config.flags import resolve_location

    return data.model_copy(update={"path": resolve_location(location), "subset": None, "split": "train", **columns})


def _prepare_student(name: str, lora_rank: int | None, device: str | None) -> CausalStudent:
    from pretext.evaluation.student import open_student

    student = open_student(name, device=device)
    if lora_rank is None:
        return student
    return replace(student, training=replace(student.training, lora_rank=lora_rank, rate=5e-4))


def _check_output(out: Path, folder: Path) -> None:
    """Raise UsageError for a place inside the run folder, or one that cannot be written."""
    from pretext.errors import UsageError
    from pretext.run.folder import check_outside_run

    check_outside_run(out, folder)
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"{out} cannot be a file; give a file in a folder that exists with --out.")


def _write_evaluation(out: Path, evaluation: Evaluation) -> None:
    from pretext.errors import UsageError
    from pretext.files import write_atomically

    try:
        write_atomically(out, evaluation.to_json())
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}.") from None


def format_evaluation(evaluation: Evaluation) -> str:
    """Format up to three tables; each says that its numbers are not covered."""
    from pretext.report.evaluation import METRIC_TITLES, SCORE_TITLES

    student = evaluation.student
    scores = {
        name: {kind: getattr(estimates, kind).mean for kind in SCORE_TITLES}
        for name, estimates in evaluation.scores.items()
    }
    metrics = {
        name: {metric: getattr(values, metric) for metric in METRIC_TITLES}
        for name, values in evaluation.metrics.items()
    }
    lines = [evaluation.notice]
    if (guarantee := evaluation.guarantee_of_the_synthetic_texts) is not None:
        lines.append(_format_guarantee(guarantee))
    lines += [
        "",
        f"Next tokens of held-out private texts, student {student.name}, {student.repetitions} repetitions, at "
        f"most {student.max_tokens} tokens of a text [NOT covered]",
        *_format_rows(scores, SCORE_TITLES),
    ]
    if evaluation.gap_closed is not None:
        lines += ["", *_format_gaps(evaluation.gap_closed, evaluation.confidence)]
    lines += [
        "",
        "Against held-out private texts, samples of one size [NOT covered]",
        *_format_rows(metrics, METRIC_TITLES),
    ]
    return "\n".join(lines)


def _format_guarantee(guarantee: Guarantee) -> str:
    """Format the guarantee of the texts themselves, for the reader to have it beside the numbers."""
    from privacy.rounding import round_up

    return (
        f"The synthetic texts themselves: ({round_up(guarantee.epsilon)}, {guarantee.delta:g})-differential privacy, "
        f"unit {guarantee.unit}, relation {guarantee.relation}."
    )


def _format_gaps(gaps: ScoreEstimates, confidence: float) -> list[str]:
    from pretext.report.evaluation import SCORE_TITLES

    lines = ["Gap closed between epsilon 0 and infinity, interval over repetitions [NOT covered]"]
    for kind, title in SCORE_TITLES.items():
        gap = getattr(gaps, kind)
        mean = "not defined" if gap.mean is None else f"{gap.mean:.1%}"
        interval = ""
        if gap.interval is not None:
            low, high = gap.interval
            interval = f"  ({confidence:.0%} interval {low:.1%} to {high:.1%})"
        lines.append(f"{title:<33}{mean:>11}{interval}")
    return lines


def _format_rows(rows: Mapping[SetName, Mapping[str, float | None]], titles: Mapping[str, str]) -> list[str]:
    """Format a line per row; a column without any value is left out."""
    from pretext.report.evaluation import SET_TITLES

    columns = [column for column in titles if any(values[column] is not None for values in rows.values())]
    lines = [" " * 33 + "".join(f"{titles[column]:>11}" for column in columns)]
    for name, values in rows.items():
        cells = ("-" if (value := values[column]) is None else f"{value:.4f}" for column in columns)
        lines.append(f"{SET_TITLES[name]:<33}" + "".join(f"{cell:>11}" for cell in cells))
    return lines
