"""`pretext split`: every client in one part, the same part always."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

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
