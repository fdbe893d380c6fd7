"""The evaluation as a value, as a file, and on the report's page."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable
from pathlib import Path

import pytest

from pretext.errors import UsageError
from pretext.report.evaluation import (
    Estimate,
    Evaluation,
    Guarantee,
    ScoreEstimates,
    SetMetrics,
    StudentSettings,
    read_evaluation,
    tabulate_evaluation,
)
from pretext.report.page import write_report
from pretext.run.folder import Run

ESTIMATE = Estimate(0.123456, (0.1, 0.2), (0.1, 0.15))
SCORES = ScoreEstimates(ESTIMATE, ESTIMATE, ESTIMATE, Estimate(None, None, (None,)), Estimate(2.5, None, (2.5,)))
EVALUATION = Evaluation(
    run="0123",
    guarantee_of_the_synthetic_texts=Guarantee(None, 1e-5, "client", "add/remove"),
    student=StudentSettings("<b>tiny</b>", 128, 2),
    confidence=0.9,
    scores={"before": SCORES, "synthetic": SCORES},
    gap_closed=SCORES,
    metrics={"synthetic": SetMetrics(0.5, 0.6, 0.7, None, 0.0, frechet=0.25), "held out": SetMetrics(1, 1, 1, 1, 0)},
)


def _write(path: Path, evaluation: Evaluation) -> Path:
    path.write_text(evaluation.to_json(), encoding="utf-8")
    return path


def test_evaluation__written_and_read__is_the_same(tmp_path: Path) -> None:
    path = _write(tmp_path / "evaluation.json", EVALUATION)
    assert read_evaluation(path, "0123") == EVALUATION


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (EVALUATION.to_json(), "[]"),
        (EVALUATION.to_json(), '{"run": "0123"}'),
        ("}", ""),
        ('"mean": 0.123456', '"mean": "high"'),
        ('"held out": {', '"unknown": {'),
        ('"max_tokens": 128,', ""),
    ],
)
def test_read_evaluation__a_damaged_file__is_one_sentence(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(EVALUATION.to_json().replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_evaluation(path, "0123")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_evaluation__a_missing_file_or_one_of_another_run__is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no file"):
        read_evaluation(tmp_path / "evaluation.json", "0123")
    with pytest.raises(UsageError, match="4567"):
        read_evaluation(_write(tmp_path / "evaluation.json", EVALUATION), "4567")


def test_tabulate_evaluation__undefined_numbers__are_empty_cells() -> None:
    tables = {table.title: table for table in tabulate_evaluation(EVALUATION)}
    interval = "0.1235\u00a0(0.1\u00a0to\u00a00.2)"
    scores = tables["Scores on held-out texts"]
    assert scores.rows[1] == ["synthetic texts", interval, interval, interval, "", "2.5"]
    assert tables["Gap closed"].rows[3] == ["nats/token", ""]
    assert tables["Metrics"].rows[0][:3] == ["synthetic texts", "0.25", ""]
    assert all(len(row) == len(table.columns or "12") for table in tables.values() for row in table.rows)


def test_page__with_an_evaluation__marks_it_and_escapes_its_words(finished: Callable[..., Run], tmp_path: Path) -> None:
    run, out = finished(), tmp_path / "report.html"
    path = _write(tmp_path / "evaluation.json", dataclasses.replace(EVALUATION, run=run.id))
    write_report(run.folder, out, path)
    page = out.read_text(encoding="utf-8")
    assert "NOT COVERED BY THE GUARANTEE." in page
    assert "this page but for its evaluation" in page
    assert page.count("0.1235\u00a0(0.1\u00a0to\u00a00.2)") == 9
    assert "<b>tiny" not in page
    assert html.escape("<b>tiny</b>") in page
