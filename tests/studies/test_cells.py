"""Rows survive the file, gaps are counted from the untouched student, and the table says what is missing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from comparison.cells import Cell, Row, add_row, compute_gaps, is_done, read_rows
from comparison.table import format_table

from pretext.errors import UsageError

ROW = Row(
    *("a", "pretext", 1.0, 0, 0, 0.2, 0.3, 0.4, 3.5, 1.5, math.nan, 0.125, 600, 12.5, 4, 1e9, 1024, 196_608),
    student="tiny",
    setting="k 8, one, with a comma",
)


def make_row(method: str, epsilon: float, top1: float, repetition: int = 0) -> Row:
    return replace(ROW, method=method, epsilon=epsilon, top1=top1, repetition=repetition)


def test_rows_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "table.csv"
    assert read_rows(path) == []
    add_row(path, make_row("non-private", math.inf, 0.5))
    add_row(path, make_row("untouched", 0.0, 0.1))
    rows = add_row(path, ROW)
    assert repr(read_rows(path)) == repr(rows)  # NaN differs from itself, not its repr
    assert rows[2].gap_closed == pytest.approx(0.25)
    assert list(tmp_path.glob("**/.*")) == []


def test_a_gap_is_counted_from_the_untouched_student() -> None:
    rows = [
        make_row("untouched", 0, 0.14),
        make_row("prompt-only", 0, 0.16),
        make_row("non-private", math.inf, 0.34),
        ROW,
    ]
    assert [row.gap_closed for row in compute_gaps(rows)] == pytest.approx([0, 0.1, 1, 0.3])


def test_a_gaps_ends_are_means_over_repetitions() -> None:
    ends = [make_row("untouched", 0, top1, i) for i, top1 in enumerate((0.0, 0.2))]
    rows = [*ends, make_row("non-private", math.inf, 0.4), make_row("non-private", math.inf, 0.2, 1), ROW]
    assert compute_gaps(rows)[4].gap_closed == pytest.approx(0.5)


@pytest.mark.parametrize("change", [{"set": "b"}, {"student": "embedded"}])
def test_ends_of_another_set_or_student_do_not_count(change: dict[str, str]) -> None:
    rows = [replace(make_row("untouched", 0, 0.1), **change), make_row("non-private", math.inf, 0.3), ROW]
    assert math.isnan(compute_gaps(rows)[2].gap_closed)


@pytest.mark.parametrize(
    "change",
    [{"set": "b"}, {"method": "aug-pe"}, {"epsilon": 2.0}, {"repetition": 1}, {"student": "b"}, {"setting": "b"}],
)
def test_a_cell_is_done_if_everything_agrees(change: dict[str, object]) -> None:
    cell = Cell("a", "pretext", 1.0, 0)
    assert is_done([ROW], cell, ROW.student, ROW.setting)
    assert not is_done([replace(ROW, **change)], cell, ROW.student, ROW.setting)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "letters.csv"
    path.write_text("text\nhello\n")
    with pytest.raises(UsageError, match="is not a table of this program"):
        read_rows(path)


def test_the_table_tells_settings_apart_and_names_failures() -> None:
    rows = [ROW, make_row("pretext", 1.0, 0.3, 1), replace(ROW, setting="other", top1=math.nan, cross_entropy=math.nan)]
    printed = format_table(rows)
    assert "25.00 +- 63.53" in printed  # t(0.975, 1) = 12.706, standard error 5 %
    assert "1 without any text" in printed
    assert "[1] k 8, one, with a comma; student tiny" in printed
    assert "[2] other; student tiny" in printed
