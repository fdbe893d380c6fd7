"""The ledger's file: made whole or not at all, locked for real, read without writing, and honest about a commit."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from privacy import Budget, DiscreteGaussian, Ledger, LedgerCorrupted, LedgerError, storage
from privacy import locks as locks_module
from privacy.locks import check_locks
from tests.privacy.helpers import BUDGET, ask, labels, open_ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "ledger.db"


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not looked at any lock yet."""
    monkeypatch.setattr(locks_module, "_checked", set())


class Failing(sqlite3.Connection):
    """A connection whose commit reports an error, after or before the file was changed."""

    happens = True
    blind = False

    def commit(self) -> None:
        if type(self).happens:
            super().commit()
        if type(self).blind:
            sqlite3.connect = unable  # type: ignore[assignment]
        raise sqlite3.OperationalError("disk I/O error")


def unable(*arguments: object, **named: object) -> sqlite3.Connection:
    raise sqlite3.OperationalError("unable to open database file")


@pytest.mark.parametrize(
    ("happens", "blind", "words"),
    [(True, False, "was written all the same"), (False, False, "Nothing was charged"), (True, True, "is not known")],
)
def test_release__commit_reports_an_error__says_what_is_known(
    happens: bool, blind: bool, words: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, connect = open_ledger(path), sqlite3.connect
    kind = type("Kind", (Failing,), {"happens": happens, "blind": blind})
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *args, **named: connect(*args, **named, factory=kind))
        with pytest.raises(LedgerError) as caught:
            ask(ledger, "votes/0")
    assert words in str(caught.value)
    assert ("Nothing was charged" in str(caught.value)) == (words == "Nothing was charged")
    held = labels(ledger.account("forum"))
    assert held == (["votes/0"] if happens else [])
    if happens:
        monkeypatch.setattr(DiscreteGaussian, "draw", lambda *_: pytest.fail("drawn twice"))
    ask(ledger, "votes/0")


def test_commit__somebody_reads_on__does_not_wait(path: Path) -> None:
    ledger = open_ledger(path, patience=0.1)
    with ledger.file.reading() as connection:
        before = connection.execute("SELECT count(*) FROM event").fetchone()
        ask(ledger, "votes/0")
        assert connection.execute("SELECT count(*) FROM event").fetchone() == before, "one state"
    assert labels(ledger.account("forum")) == ["votes/0"]


def test_a_reader__beside_a_writer__sees_one_state(path: Path) -> None:
    ledger = open_ledger(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert Ledger(path, patience=0.0).account("forum").budget == BUDGET
        writer.rollback()
    assert ledger.names() == ["forum"]


@pytest.mark.usefixtures("unchecked")
def test_check_locks__real_locks__pass_once_for_a_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    check_locks(path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("asked again"))
    check_locks(path)
    assert list(path.parent.iterdir()) == []


class Lockless(sqlite3.Connection):
    """A connection that is told that it holds the lock, and holds none."""

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        return super().execute("SELECT 1" if statement == "BEGIN IMMEDIATE" else statement, *values)  # type: ignore[arg-type]


@pytest.mark.usefixtures("unchecked")
def test_release__locks_are_only_pretended__draws_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, connect = open_ledger(path), sqlite3.connect
    locks_module._checked.clear()
    monkeypatch.setattr(DiscreteGaussian, "draw", lambda *_: pytest.fail("noise was drawn"))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *args, **named: connect(*args, **named, factory=Lockless))
        with pytest.raises(LedgerError, match="two processes"):
            ask(ledger, "votes/0")
    assert ledger.account("forum").releases == ()


class Refusing(sqlite3.Connection):
    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        if statement == "BEGIN IMMEDIATE":
            raise sqlite3.OperationalError("database is locked")
        return super().execute(statement, *values)  # type: ignore[arg-type]


@pytest.mark.usefixtures("unchecked")
def test_a_ledger__file_system_refuses_locks__is_not_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and with the right cause: nobody else can hold a lock on a file that is just made."""
    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *args, **named: connect(*args, **named, factory=Refusing))
        with pytest.raises(LedgerError, match="refuses locks"):
            Ledger(path)
    assert not path.parent.exists()


def test_reading__needs_no_right_to_write_and_writes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(open_ledger(path), "votes/0")
    before = path.read_bytes(), path.stat().st_mtime_ns
    monkeypatch.setattr(Ledger, "_writing", lambda *_: pytest.fail("it wants to write"))
    monkeypatch.setattr(storage, "create", lambda *_: pytest.fail("it wants to make a file"))
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        ledger = Ledger(path, make=False)
        ledger.examine()
        assert labels(ledger.account("forum")) == ["votes/0"]
        assert ledger.names_of("/data/forum.csv") == ledger.names() == ["forum"]
        assert ledger.replay("forum", "votes/0", "digest") is not None
    finally:
        path.parent.chmod(0o700)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="mounts a disk")
@pytest.mark.parametrize("has_log", [True, False])
def test_reading__on_a_read_only_disk__works(tmp_path: Path, has_log: bool) -> None:
    """Also with the log that a killed writer left."""
    disk, path = tmp_path / "disk", tmp_path / "first" / "ledger.db"
    ask(open_ledger(path), "votes/0")
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], capture_output=True).returncode:
        pytest.skip("cannot mount")
    try:
        with closing(sqlite3.connect(path)) as writer:
            if has_log:
                writer.execute("UPDATE head SET digest = digest")
                writer.commit()
            shutil.copytree(path.parent, disk / "home")
        assert (disk / "home" / "ledger.db-wal").exists() == has_log
        subprocess.run(["mount", "-o", "remount,ro", "none", disk], check=True)
        assert labels(Ledger(disk / "home" / "ledger.db", make=False).account("forum")) == ["votes/0"]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_ledger__missing_and_not_to_be_made__is_an_error(path: Path) -> None:
    with pytest.raises(LedgerError):
        Ledger(path, make=False)
    assert not path.parent.exists()


def fill(path: Path) -> None:
    for number in range(1000):
        ask(open_ledger(path, budget=Budget(20.0, 1e-6)), f"votes/{number}")


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="mounts a small disk")
@pytest.mark.parametrize("kilobytes", [16, 40, 64])
def test_a_ledger__made_on_a_full_disk__is_whole_or_not_there(tmp_path: Path, kilobytes: int) -> None:
    path = tmp_path / "disk" / "home" / "ledger.db"
    disk = path.parent.parent
    disk.mkdir()
    options = ["mount", "-t", "tmpfs", "-o"]
    if subprocess.run([*options, f"size={kilobytes}k", "none", disk], capture_output=True).returncode:
        pytest.skip("cannot mount")
    try:
        with pytest.raises(LedgerError):
            fill(path)
        if path.exists():
            Ledger(path).examine()
        subprocess.run([*options, "remount,size=4m", "none", disk], check=True)
        ask(open_ledger(path), "another")
        Ledger(path).examine()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_ledger__its_folder_does_not_reach_the_disk__is_whole_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(LedgerError, match="cannot be made"):
            Ledger(path)
    ask(open_ledger(path), "votes/0")
    Ledger(path).examine()


def test_identity__of_each_ledger__is_its_own_and_begins_every_chain(tmp_path: Path) -> None:
    one, two = open_ledger(tmp_path / "one.db"), open_ledger(tmp_path / "two.db")
    assert len({one.identity, two.identity}) == 2
    assert Ledger(tmp_path / "one.db").identity == one.identity
    with closing(sqlite3.connect(tmp_path / "two.db")) as connection, connection:
        connection.execute("UPDATE ledger SET identity = ?", (one.identity,))
    with pytest.raises(LedgerCorrupted, match="event 1 of dataset 'forum'"):
        Ledger(tmp_path / "two.db").account("forum")
    with closing(sqlite3.connect(tmp_path / "two.db")) as connection, connection:
        connection.execute("INSERT INTO ledger VALUES ('second')")
    with pytest.raises(LedgerCorrupted, match="one identity"):
        Ledger(tmp_path / "two.db")


def test_release__another_ledger_in_the_place_of_the_open_one__draws_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(tmp_path / "one.db")
    open_ledger(tmp_path / "two.db")
    shutil.copy(tmp_path / "two.db", tmp_path / "one.db")
    monkeypatch.setattr(DiscreteGaussian, "draw", lambda *_: pytest.fail("noise was drawn"))
    with pytest.raises(LedgerCorrupted, match="another ledger"):
        ask(ledger, "votes/0")


def test_release__an_older_copy_in_the_place_of_the_open_one__draws_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(path)
    ask(ledger, "votes/0")
    shutil.copy(path, path.with_suffix(".old"))
    first = ask(ledger, "votes/1")
    shutil.copy(path, path.with_suffix(".new"))
    shutil.copy(path.with_suffix(".old"), path)
    with monkeypatch.context() as patch:
        patch.setattr(DiscreteGaussian, "draw", lambda *_: pytest.fail("noise was drawn"))
        for label in ("votes/1", "votes/2"):
            with pytest.raises(LedgerCorrupted, match="event 4 of dataset 'forum' is gone"):
                ask(ledger, label)
    shutil.copy(path.with_suffix(".new"), path)
    np.testing.assert_array_equal(ask(ledger, "votes/1"), first)


def test_leftovers__older_than_a_day__are_removed_by_the_next_start(path: Path) -> None:
    ledger = open_ledger(path)
    litter = [path.parent / f".ledger.db-{name}" for name in ("abc", "abc-journal", "fresh")]
    other = path.parent / "mine.txt"
    for file in (*litter, other):
        file.touch()
    for file in (*litter[:2], other):
        os.utime(file, (0, time.time() - 2 * 86_400))
    open_ledger(path)
    assert sorted(path.parent.iterdir()) == sorted([path, other, litter[2]])
    assert ledger.names() == ["forum"]


def test_begin_to_read__a_connection_that_cannot__is_closed(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "some.sqlite", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        with pytest.raises(sqlite3.OperationalError):
            storage._begin_to_read(connection)
        with pytest.raises(sqlite3.ProgrammingError):
            connection.execute("SELECT 1")
