"""scripts/split_clients.py: every client in one part, the same part always."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.support.runs import rows_of, write_rows

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "split_clients.py"


def _split(file: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(file), "--folder", str(folder), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_clients_are_split_once_and_for_all(tmp_path: Path) -> None:
    rows = rows_of(400, label=True)
    done = _split(write_rows(tmp_path / "all.jsonl", rows), tmp_path / "parts", "--column", "text", "--column", "label")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    parts = {name: _rows(tmp_path / "parts" / f"{name}.jsonl") for name in ("train", "validation", "test")}
    assert sorted(map(str, [row for part in parts.values() for row in part])) == sorted(map(str, rows))
    clients = {name: {row["client_id"] for row in part} for name, part in parts.items()}
    assert sum(map(len, clients.values())) == len(set.union(*clients.values())) == 400
    # Binomial(400, 0.1): outside of 12 to 75 with a chance below 1e-6, were the hash drawn anew; it is fixed.
    assert all(12 <= len(clients[name]) <= 75 for name in ("validation", "test"))
    write_rows(tmp_path / "fewer.jsonl", rows[600:])
    _split(tmp_path / "fewer.jsonl", tmp_path / "again")
    assert {row["client_id"] for row in _rows(tmp_path / "again" / "test.jsonl")} <= clients["test"]
    modes = Counter(oct(path.stat().st_mode & 0o777) for path in (tmp_path / "parts").iterdir())
    assert modes == {"0o600": 3}


def test_private_parts_lie_neither_in_the_repository_nor_over_others(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "all.jsonl", rows_of(5))
    inside = SCRIPT.parent / "parts"
    refused = _split(file, inside)
    assert refused.returncode == 1
    assert "is in the repository" in refused.stderr
    assert not inside.exists()
    assert _split(file, tmp_path / "parts").returncode == 0
    assert "is there already" in _split(file, tmp_path / "parts").stderr
    assert "no column 'who'" in _split(file, tmp_path / "other", "--client-column", "who").stderr
    assert not (tmp_path / "other").exists()
