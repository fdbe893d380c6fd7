"""Copies in other formats hold the same texts."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pretext.errors import RunFolderError, UsageError
from pretext.report.export import _is_formula, export_dataset, export_file
from pretext.run.folder import Run
from pretext.run.shards import synthetic_rows


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def _cells(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("settings", [[], ["expansion.shard_texts=9", "expansion.format=parquet"]])
def test_every_format_holds_the_texts_in_order(
    finished: Callable[..., Run], tmp_path: Path, settings: list[str]
) -> None:
    import datasets
    import pyarrow.parquet

    folder = finished(*settings, hostile=True).folder
    rows = list(synthetic_rows(folder))
    formulas = [row["text"].startswith(("=", "+", "-", "@")) for row in rows]
    for ending, disarmed in (("jsonl", 0), ("parquet", 0), ("csv", sum(formulas))):
        assert export_file(folder, tmp_path / f"out.{ending}") == disarmed
    assert _lines(tmp_path / "out.jsonl") == rows
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist() == rows
    expected = [{**row, "text": "'" * risky + row["text"]} for row, risky in zip(rows, formulas, strict=True)]
    assert _cells(tmp_path / "out.csv") == expected
    export_dataset(folder, tmp_path / "set")
    assert datasets.load_from_disk(str(tmp_path / "set")).to_list() == rows
    assert "data-*.arrow" in (tmp_path / "set" / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_cell_that_is_a_formula_is_disarmed_in_csv_alone(finished: Callable[..., Run], tmp_path: Path) -> None:
    run = finished()
    texts = ["=1+1", "+49 30", "-5 degrees", "@sum", "\t=1", "＝1", "plain =1", 'quote " and\nline']
    (run.folder / "synthetic.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    assert export_file(run.folder, tmp_path / "out.csv") == 6
    read = [row["text"] for row in _cells(tmp_path / "out.csv")]
    assert read == [f"'{text}" for text in texts[:6]] + texts[6:]
    assert export_file(run.folder, tmp_path / "out.jsonl") == 0
    assert [row["text"] for row in _lines(tmp_path / "out.jsonl")] == texts


def test_nothing_is_overwritten_unasked(finished: Callable[..., Run], tmp_path: Path) -> None:
    folder = finished().folder
    file, folder_of_mine = tmp_path / "out.csv", tmp_path / "mine"
    file.write_text("mine")
    folder_of_mine.mkdir()
    (folder_of_mine / "file").touch()
    with pytest.raises(UsageError, match="exists already"):
        export_file(folder, file)
    assert file.read_text() == "mine"
    export_file(folder, file, force=True)
    assert file.read_text() != "mine"
    for force, words in ((False, "exists already"), (True, "is no dataset")):
        with pytest.raises(UsageError, match=words):
            export_dataset(folder, folder_of_mine, force=force)
    assert (folder_of_mine / "file").exists()
    export_dataset(folder, tmp_path / "set")
    export_dataset(folder, tmp_path / "set", force=True)


def test_what_cannot_be_done_leaves_nothing(
    finished: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished()
    with pytest.raises(UsageError, match=r"must end in \.csv"):
        export_file(run.folder, tmp_path / "out.xlsx")
    with pytest.raises(UsageError, match="cannot be written"):
        export_file(run.folder, tmp_path / "no" / "out.csv")
    with pytest.raises(RunFolderError, match="not a run folder"):
        export_file(tmp_path / "none", tmp_path / "out.csv")

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        export_file(run.folder, tmp_path / "out.parquet")
    monkeypatch.undo()
    (run.folder / "synthetic.jsonl").unlink()
    with pytest.raises(RunFolderError, match="no synthetic texts yet"):
        export_file(run.folder, tmp_path / "out.jsonl")
    with pytest.raises(RunFolderError, match="no synthetic texts yet"):
        export_dataset(run.folder, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))
    assert not list(tmp_path.glob(".*"))


def test_is_formula__behind_what_nobody_sees__is_found() -> None:
    for hidden in ("\u200b", "\ufeff", "\x00", "\x1b", "\u202e", "\u00a0 ", ""):
        for sign in "=+-@＝﹦−":
            assert _is_formula(f"{hidden}{sign}1+1"), (hidden, sign)
    assert not any(map(_is_formula, ("", "a=1", "\u200b", "'=1", "1-2")))


def test_export__into_the_run_folder__is_refused(tmp_path: Path) -> None:
    for write in (export_file, export_dataset):
        with pytest.raises(UsageError):
            write(tmp_path / "run", tmp_path / "run" / "x.csv")
