"""`pretext split`: every client in one part, the same part always."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from pathlib import Path

import pytest

import pretext
from tests.support.runs import Command, rows_of, write_rows


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_split__a_file_and_a_part_of_it__puts_each_client_into_the_same_part(called: Command, tmp_path: Path) -> None:
    rows = rows_of(400, label=True)
    file = write_rows(tmp_path / "all.jsonl", rows)
    columns = ("--column", "text", "--column", "label")
    assert called("split", file, "--folder", tmp_path / "parts", *columns) == (0, "", "")
    parts = {name: _rows(tmp_path / "parts" / f"{name}.jsonl") for name in ("train", "validation", "test")}
    assert sorted(map(str, [row for part in parts.values() for row in part])) == sorted(map(str, rows))
    clients = {name: {row["client_id"] for row in part} for name, part in parts.items()}
    assert sum(map(len, clients.values())) == len(set.union(*clients.values())) == 400
    # Binomial(400, 0.1): outside of 12 to 75 with a chance below 1e-6, were the hash drawn anew; it is fixed.
    assert all(12 <= len(clients[name]) <= 75 for name in ("validation", "test"))
    fewer = write_rows(tmp_path / "fewer.jsonl", rows[600:])
    assert called("split", fewer, "--folder", tmp_path / "again")[0] == 0
    assert {row["client_id"] for row in _rows(tmp_path / "again" / "test.jsonl")} <= clients["test"]
    modes = Counter(oct(path.stat().st_mode & 0o777) for path in (tmp_path / "parts").iterdir())
    assert modes == {"0o600": 3}


def test_split__a_folder_of_the_program_or_with_parts_in_it__is_refused(called: Command, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "all.jsonl", rows_of(5))
    inside = Path(pretext.__file__).parent / "parts"
    code, out, err = called("split", file, "--folder", inside)
    assert (code, out) == (2, "")
    assert str(inside) in err
    assert not inside.exists()
    assert called("split", file, "--folder", tmp_path / "parts")[0] == 0
    before = (tmp_path / "parts" / "train.jsonl").read_bytes()
    code, _, err = called("split", file, "--folder", tmp_path / "parts")
    assert code == 2
    assert "train.jsonl" in err
    assert (tmp_path / "parts" / "train.jsonl").read_bytes() == before


def test_split__a_column_that_is_missing__leaves_no_folder(called: Command, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "all.jsonl", rows_of(5))
    code, _, err = called("split", file, "--folder", tmp_path / "parts", "--client-column", "who")
    assert code == 2
    assert "'who'" in err
    assert not (tmp_path / "parts").exists()


def test_split__into_a_run_folder__is_refused(called: Command, tmp_path: Path) -> None:
    """A run folder is made to be published."""
    file = write_rows(tmp_path / "all.jsonl", rows_of(5))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    assert called("split", file, "--folder", tmp_path / "run" / "parts")[0] == 2
    assert not (tmp_path / "run" / "parts").exists()


def test_split__of_a_file_that_breaks_off__leaves_no_part(called: Command, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "all.jsonl", rows_of(2000))
    with file.open("a") as lines:
        lines.write('{"text": ')
    assert called("split", file, "--folder", tmp_path / "parts")[0] == 2
    assert list((tmp_path / "parts").iterdir()) == []


def test_split__on_a_full_disk__is_one_sentence_and_leaves_no_part(
    called: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    file = write_rows(tmp_path / "all.jsonl", rows_of(5))
    monkeypatch.setattr("pretext.evaluation.split._write_batch", fail)
    code, _, err = called("split", file, "--folder", tmp_path / "parts")
    assert (code, len(err.splitlines())) == (2, 1)
    assert list((tmp_path / "parts").iterdir()) == []


def test_split__of_values_that_json_lacks__names_the_same_clients(called: Command, tmp_path: Path) -> None:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    clients = [datetime.date(2024, 1, day) for day in range(1, 31)]
    table = pyarrow.table({"client_id": clients, "text": ["a text"] * 30, "extra": [b"\xff\x00", None, b"ok"] * 10})
    pyarrow.parquet.write_table(table, tmp_path / "all.parquet")
    columns = ("--column", "text", "--column", "extra")
    assert called("split", tmp_path / "all.parquet", "--folder", tmp_path / "parts", *columns)[0] == 0
    rows = [row for path in (tmp_path / "parts").iterdir() for row in _rows(path)]
    assert sorted(row["client_id"] for row in rows) == list(map(str, clients))
    assert {row["extra"] for row in rows} == {"ff00", None, "ok"}
