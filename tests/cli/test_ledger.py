"""`pretext ledger`, and what a command does with a ledger that is damaged or locked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import pretext.jobs.run
from pretext.home import open_ledger
from tests.support.runs import Command


def test_unknown_dataset(pretext_command: Command) -> None:
    open_ledger()
    code, _, err = pretext_command("ledger", "show", "nobody")
    assert code == 2
    assert "'nobody'" in err


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_corrupted_ledger(damage: bytes, pretext_command: Command, arguments: list[str], home: Path) -> None:
    home.mkdir()
    (home / "ledger.sqlite").write_bytes(damage)
    code, _, err = pretext_command("run", *arguments)
    assert code == 1
    assert str(home / "ledger.sqlite") in err
    assert (home / "ledger.sqlite").read_bytes() == damage


def test_a_locked_ledger(
    pretext_command: Command, arguments: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    from privacy import Ledger

    Ledger(home / "ledger.sqlite")
    monkeypatch.setattr(pretext.jobs.run, "open_ledger", lambda: Ledger(home / "ledger.sqlite", patience=0.2))
    holder = sqlite3.connect(home / "ledger.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    code, _, err = pretext_command("run", *arguments)
    holder.close()
    assert code == 1
    assert str(home / "ledger.sqlite") in err
    assert pretext_command("run", *arguments)[0] == 0


def test_budget__raised__keeps_what_was_spent(pretext_command: Command, arguments: list[str]) -> None:
    pretext_command("run", *arguments)
    before = json.loads(pretext_command("ledger", "show", "private", "--json")[1])
    assert pretext_command("ledger", "budget", "private", "--epsilon", "7")[0] == 0
    after = json.loads(pretext_command("ledger", "show", "private", "--json")[1])
    assert after["budget"] == {"epsilon": 7.0, "delta": before["budget"]["delta"]}
    assert after["spent_epsilon"] == before["spent_epsilon"]
    assert after["releases"] == before["releases"]


@pytest.mark.parametrize("flags", [["--epsilon", "0"], ["--epsilon", "5", "--delta", "0"], ["--epsilon", "nan"]])
def test_budget__out_of_range__is_exit_2_and_changes_nothing(
    flags: list[str], pretext_command: Command, arguments: list[str]
) -> None:
    pretext_command("run", *arguments)
    before = pretext_command("ledger", "show", "private", "--json")[1]
    assert pretext_command("ledger", "budget", "private", *flags)[0] == 2
    assert pretext_command("ledger", "show", "private", "--json")[1] == before
