"""The command `pretext evaluate`: how good a run's synthetic texts are, on private texts that it never saw."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pretext.cli.options import json_option

_NAMES = {
    "before": "before training",
    "initial": "initial population (epsilon 0)",
    "synthetic": "synthetic texts",
    "private": "private texts (epsilon infinity)",
    "held out": "held-out private texts",
}
_SCORES = {
    "top1": "top-1",
    "top3": "top-3",
    "top5": "top-5",
    "cross_entropy": "nats/token",
    "bits_per_byte": "bits/byte",
}
_METRICS = {
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


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--test", required=True, help="Held-out private texts: a file or Hugging Face dataset id.")
@click.option("--train", help="The private texts that the run saw, for what no privacy gives.")
@click.option("--text-column", help="Column with the text in both; default: the run's.")
@click.option("--client-column", help="Column that tells clients apart in both; default: the run's.")
@click.option("--student", default="tiny", show_default=True, help="tiny, embedded, a model's folder or hub name.")
@click.option("--lora", type=click.IntRange(min=1), help="Train adapters of this rank only (extra `lora`).")
@click.option("--repetitions", type=click.IntRange(min=1), default=3, show_default=True, help="Students per set.")
@click.option("--tokens", type=click.IntRange(min=1), help="Tokens that a student learns from; default: its own.")
@click.option("--texts", type=click.IntRange(min=2), default=2000, show_default=True, help="Texts scored, at most.")
@click.option("--out", type=click.Path(path_type=Path), default="evaluation.json", show_default=True)
@click.option("--force-overlap", is_flag=True, help="Do not check that the run saw none of the tested clients.")
@json_option
def evaluate(folder: Path, test: str, train: str | None, out: Path, as_json: bool, **flags: Any) -> None:
    """Measure a run on held-out private texts. The numbers are NOT covered by the guarantee."""
    from pretext.evaluation.evaluate import EvaluationSettings
    from pretext.evaluation.evaluate import evaluate_run as measure
    from pretext.lazy import Once
    from pretext.models.embedder import SentenceEmbedder
    from pretext.run.folder import Run

    _, config = Run.open(folder)
    _check_output(out, folder)
    columns = {name: flags[name] or getattr(config.data, name) for name in ("text_column", "client_column")}
    question = EvaluationSettings(
        _locate_data(config, test, columns),
        _locate_data(config, train, columns) if train else None,
        flags["repetitions"],
        flags["tokens"],
        flags["texts"],
        allow_overlap=flags["force_overlap"],
    )
    student = Once(lambda: _prepare_student(flags["student"], flags["lora"], config.speed.device))
    told = measure(folder, question, student, Once(lambda: SentenceEmbedder.from_config(config)))
    _write_evaluation(out, told)
    click.echo(json.dumps(told, indent=1) if as_json else format_evaluation(told))


def _locate_data(config: Any, location: str, columns: Mapping[str, str | None]) -> Any:
    """As the run reads its own, from another place."""
    from pretext.tables import resolve_location

    where = {"path": resolve_location(location), "subset": None, "split": "train"}
    return config.data.model_copy(update=where | dict(columns))


def _prepare_student(name: str, lora: int | None, device: str | None) -> Any:
    from dataclasses import replace

    from pretext.evaluation.student import open_student

    student = open_student(name, device=device)
    if lora is None:
        return student
    return replace(student, training=replace(student.training, lora_rank=lora, rate=5e-4))


def _check_output(out: Path, folder: Path) -> None:
    """Raises UsageError for a place inside the run folder, or one that cannot be written."""
    from pretext.errors import UsageError
    from pretext.run.folder import check_outside_run

    check_outside_run(out, folder)
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise UsageError(f"{out} cannot be a file; give a file in a folder that exists with --out.")


def _write_evaluation(out: Path, evaluation: Mapping[str, Any]) -> None:
    from pretext.errors import UsageError
    from pretext.files import open_atomically

    try:
        with open_atomically(out) as file:
            file.write(json.dumps(evaluation, indent=1).encode())
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}.") from None


def format_evaluation(evaluation: Mapping[str, Any]) -> str:
    """Three tables, each marked."""
    student = evaluation["student"]
    scores = {name: {kind: row[kind]["mean"] for kind in _SCORES} for name, row in evaluation["scores"].items()}
    lines = [
        evaluation["notice"],
        *_format_guarantee(evaluation["guarantee_of_the_synthetic_texts"]),
        "",
        f"Next tokens of held-out private texts, student {student['name']}, {student['repetitions']} repetitions, at "
        f"most {student['max_tokens']} tokens of a text [NOT covered]",
        *_format_scores(scores, _SCORES),
    ]
    if evaluation["gap_closed"]:
        lines += ["", *_format_gap(evaluation)]
    lines += [
        "",
        "Against held-out private texts, samples of one size [NOT covered]",
        *_format_scores(evaluation["metrics"], _METRICS),
    ]
    return "\n".join(lines)


def _format_guarantee(guarantee: Mapping[str, Any] | None) -> list[str]:
    """Of the texts that were measured, for the reader to have it beside the numbers."""
    from privacy.rounding import round_up

    if guarantee is None:
        return []
    return [
        f"The synthetic texts themselves: ({round_up(guarantee['epsilon'])}, {guarantee['delta']:g})-differential "
        f"privacy, unit {guarantee['unit']}, relation {guarantee['relation']}."
    ]


def _format_gap(evaluation: Mapping[str, Any]) -> list[str]:
    gaps, confidence = evaluation["gap_closed"], evaluation["confidence"]
    lines = ["Gap closed between epsilon 0 and infinity, interval over repetitions [NOT covered]"]
    for kind, name in _SCORES.items():
        gap = gaps[kind]
        mean = "not defined" if gap["mean"] is None else f"{gap['mean']:.1%}"
        low, high = gap["interval"] or (None, None)
        between = "" if low is None else f"  ({confidence:.0%} interval {low:.1%} to {high:.1%})"
        lines.append(f"{name:<33}{mean:>11}{between}")
    return lines


def _format_scores(rows: Mapping[str, Mapping[str, float | None]], columns: Mapping[str, str]) -> list[str]:
    """A line per row; a column that no row has is left out."""
    there = [key for key in columns if any(row.get(key) is not None for row in rows.values())]
    lines = [" " * 33 + "".join(f"{columns[key]:>11}" for key in there)]
    for name, row in rows.items():
        lines.append(f"{_NAMES[name]:<33}" + "".join(_format_score(row.get(key)) for key in there))
    return lines


def _format_score(value: float | None) -> str:
    return f"{'-' if value is None else format(value, '.4f'):>11}"
