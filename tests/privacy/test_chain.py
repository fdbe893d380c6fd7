"""The chain: what is edited, deleted, added or moved is named; what a chain cannot tell is not claimed.

ledger_version_0.sqlite was written by the program before there was a chain: data set "forum" with three releases, a
budget that was raised, a second source and one more release; data set "notes" with one release.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from privacy import Budget, Ledger, LedgerConflict, LedgerCorrupted, Relation, Unit
from privacy.chain import entries
from tests.privacy.helpers import ask, labels, open_ledger

OLD = Path(__file__).with_name("ledger_version_0.sqlite")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Entries: data set, budget, source, releases 1 and 2, budget 2, release 3, seal 1, release 4."""
    ledger = open_ledger(tmp_path / "ledger.db")
    for label in ("run/votes/0", "run/votes/1"):
        ask(ledger, label)
    ledger.set_budget("forum", Budget(2.0, 1e-6))
    ask(ledger, "run/votes/2")
    ledger.seal("forum", "run", "a" * 64)
    ask(ledger, "other/votes/0")
    return tmp_path / "ledger.db"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copy(OLD, tmp_path / "old.db"))


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            assert connection.execute(statement).rowcount >= 1


def digests(path: Path, name: str = "forum") -> Iterator[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        yield from ((entry.kind, entry.digest) for entry in entries(connection, name))


def test_entries_come_in_the_order_in_which_they_were_written(path: Path) -> None:
    kinds = ["data_set", "budget", "source", "release", "release", "budget", "release", "seal", "release"]
    assert [kind for kind, _ in digests(path)] == kinds
    account = Ledger(path).account("forum")
    assert (account.position, account.head) == (9, list(digests(path))[-1][1])


SWAPPED = "UPDATE event SET id = CASE id WHEN {0} THEN -{1} ELSE -{0} END WHERE id IN ({0}, {1})"
TAMPERING = {
    "deleted release": (["DELETE FROM release WHERE id = 2"], "release number 2 is gone"),
    "deleted release and its event": (
        ["DELETE FROM release WHERE id = 2", "DELETE FROM event WHERE kind = 'release' AND key = '2'"],
        "budget number 2 is not as it was written, or not in its place",
    ),
    "deleted last release": (["DELETE FROM release WHERE id = 4"], "release number 4 is gone"),
    "less noise": (["UPDATE release SET sigma = sigma / 2 WHERE id = 1"], "release number 1 is not as it was written"),
    "another value": (["UPDATE release SET value = zeroblob(32) WHERE id = 3"], "release number 3 is not as it was"),
    "another budget": (["UPDATE budget SET epsilon = 9 WHERE id = 2"], "budget number 2 is not as it was written"),
    "budgets exchanged": (
        ["UPDATE budget SET id = 3 - id + 10", "UPDATE budget SET id = id - 10"],
        "budget number 1 is not as it was written",
    ),
    "another source": (["UPDATE source SET path = '/data/x.csv'"], "source '/data/forum.csv' is gone"),
    "another unit": (["UPDATE data_set SET unit = 'null'"], "data set 'forum' is not as it was written"),
    "another seal": (["UPDATE seal SET manifest = 'b'"], "seal number 1 is not as it was written"),
    "events exchanged": (
        [SWAPPED.format(4, 5), "UPDATE event SET id = -id WHERE id < 0"],
        "release number 2 is not as it was written, or not in its place",
    ),
    "added release": (
        ["INSERT INTO release SELECT 9, data_set, 'x', subject, mechanism, sigma, grid, dimension, norm_squared, "
         "nonnegative, relation, cost, value, time, code FROM release WHERE id = 1"],
        "release number 9 was added from outside",
    ),
    "added source": (["INSERT INTO source VALUES ('/data/y.csv', 'forum')"], "source '/data/y.csv' was added"),
    "no events at all": (["DELETE FROM event"], "data set 'forum' was added from outside"),
    "an event of no kind": (["UPDATE event SET kind = 'gift' WHERE id = 4"], "gift '1' is gone"),
}  # fmt: skip


@pytest.mark.parametrize("case", TAMPERING)
def test_tampering_is_named(path: Path, case: str) -> None:
    statements, words = TAMPERING[case]
    edit(path, *statements)
    for call in (
        lambda: Ledger(path).account("forum"),
        lambda: Ledger(path).replay("forum", "run/votes/0", "digest"),
        lambda: ask(Ledger(path), "run/votes/3"),
        lambda: Ledger(path).seal("forum", "run", "b" * 64),
    ):
        with pytest.raises(LedgerCorrupted) as caught:
            call()
        assert words in str(caught.value)


def test_a_cut_tail_is_noticed_against_what_was_kept_elsewhere_only(path: Path) -> None:
    before = Ledger(path).account("forum")
    edit(path, "DELETE FROM release WHERE id = 4", "DELETE FROM event WHERE kind = 'release' AND key = '4'")
    after = Ledger(path).account("forum")
    assert len(after.releases) == 3, "the chain alone does not tell"
    assert Ledger(path).account("forum", before.position).head != before.head


def test_data_sets_have_chains_of_their_own(path: Path) -> None:
    Ledger(path).register("code", "/data/code.csv", Unit("user"), Relation.ADD_REMOVE, Budget(1.0, 1e-6))
    edit(path, "UPDATE budget SET epsilon = 9 WHERE data_set = 'code'")
    assert len(Ledger(path).account("forum").releases) == 4
    with pytest.raises(LedgerCorrupted, match="budget number 3"):
        Ledger(path).account("code")


def test_the_account_as_it_was(path: Path) -> None:
    ledger = Ledger(path)
    now = ledger.account("forum")
    then = ledger.account("forum", 5)
    assert labels(then) == ["run/votes/0", "run/votes/1"]
    assert (then.budget.epsilon, now.budget.epsilon) == (1.0, 2.0)
    assert (then.position, then.seals) == (5, ())
    assert ledger.account("forum", 99).head == now.head
    for empty in (0, 1):
        with pytest.raises(LedgerCorrupted):
            ledger.account("forum", empty)


# Seals


def test_a_seal_is_kept_and_the_same_one_is_not_written_twice(path: Path) -> None:
    ledger = Ledger(path)
    before = ledger.account("forum")
    ledger.seal("forum", "run", "a" * 64)
    assert len(ledger.account("forum").seals) == 1
    ledger.seal("forum", "run", "b" * 64)
    ledger.seal("forum", "other", "c" * 64)
    account = ledger.account("forum")
    assert [(seal.run, seal.manifest[0]) for seal in account.seals] == [("run", "a"), ("run", "b"), ("other", "c")]
    sealed = account.sealed("run")
    assert sealed is not None and sealed.manifest == "b" * 64
    assert account.sealed("nobody") is None
    assert (account.position, account.head) == (before.position, before.head), "a seal changes nothing that is spent"
    assert account.spent == before.spent


def test_a_seal_needs_a_known_data_set(path: Path) -> None:
    with pytest.raises(LedgerConflict, match="knows no data set 'typo'"):
        Ledger(path).seal("typo", "run", "a")


# Ledgers of version 0


def test_an_old_ledger_goes_on(old: Path) -> None:
    with closing(sqlite3.connect(OLD)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (0,)
        query = "SELECT value, grid FROM release WHERE data_set = 'forum'"
        values = [np.frombuffer(value, "<i8") * grid for value, grid in connection.execute(query)]
    ledger = Ledger(old)
    forum, notes = ledger.account("forum"), ledger.account("notes")
    assert labels(forum) == ["first/votes/0", "first/votes/1", "first/votes/2", "second/votes/0"]
    np.testing.assert_array_equal([release.noisy for release in forum.releases], values)
    assert (forum.budget, forum.sources) == (Budget(2.0, 1e-6), ("/data/a copy.csv", "/data/forum.csv"))
    assert forum.spent.mu_squared == pytest.approx(3 / 20**2 + 1 / 10**2)
    assert (notes.relation, notes.unit, len(notes.releases)) == (Relation.REPLACE_ONE, Unit(), 1)
    np.testing.assert_array_equal(ask(ledger, "first/votes/1"), values[1])
    ask(ledger, "third/votes/0")
    assert len(Ledger(old).account("forum").releases) == 5
    edit(old, "UPDATE release SET sigma = sigma * 2 WHERE id = 1")
    with pytest.raises(LedgerCorrupted, match="release number 1 is not as it was written"):
        ledger.account("forum")


def test_many_that_open_an_old_ledger_at_once(old: Path) -> None:
    barrier = threading.Barrier(4)

    def opened(number: int) -> None:
        barrier.wait(300)
        ask(Ledger(old), f"more/votes/{number}")

    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(opened, number) for number in range(4)]:
            one.result()
    assert len(Ledger(old).account("forum").releases) == 8


@pytest.mark.parametrize("change", ["sigma = sigma * 2", "value = zeroblob(32)", "digest = 'edited'", "label = 'x'"])
def test_an_old_ledger_that_was_edited_is_refused_as_it_is(old: Path, change: str) -> None:
    edit(old, f"UPDATE release SET {change} WHERE id = 2")
    before = old.read_bytes()
    with pytest.raises(LedgerCorrupted, match="release number 2 is not as it was written"):
        Ledger(old)
    assert old.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE budget SET epsilon = -1",
        "UPDATE data_set SET relation = 'none'",
        "UPDATE data_set SET unit = 'not json'",
        "DELETE FROM budget",
    ],
)
def test_an_old_ledger_with_impossible_values_is_refused(old: Path, statement: str) -> None:
    edit(old, statement)
    with pytest.raises(LedgerCorrupted, match="is not as it was written"):
        Ledger(old).account("forum")


def test_a_ledger_that_only_says_it_is_old_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 0")
    with pytest.raises(LedgerCorrupted, match="release number 1 is not as it was written"):
        Ledger(path)


def test_a_newer_ledger_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(LedgerCorrupted, match="newer version"):
        Ledger(path)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("point", ["DROP COLUMN", "CREATE TABLE event", "user_version = 1", "INSERT INTO event", ""])
def test_killed_while_upgrading_the_ledger_is_old_or_new(old: Path, point: str) -> None:
    """At every kind of statement, and (the empty point) right before the commit."""
    if killed(old, point):
        with closing(sqlite3.connect(old)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (0,)
            columns = [row[1] for row in connection.execute("PRAGMA table_info(release)")]
        assert "digest" in columns
    else:
        pytest.fail("it did not get there")
    assert len(Ledger(old).account("forum").releases) == 4


def killed(path: Path, point: str) -> bool:
    """Whether a child that opens the ledger dies at the statement that holds `point`, or before its commit."""

    class Mortal(sqlite3.Connection):
        execute: Callable[..., sqlite3.Cursor]

        def commit(self) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(connection: sqlite3.Connection, statement: str, *values: object) -> sqlite3.Cursor:
        cursor = sqlite3.Connection.execute(connection, statement, *values)  # type: ignore[arg-type]
        if point and point in statement:
            os.kill(os.getpid(), signal.SIGKILL)
        return cursor

    child = os.fork()
    if child == 0:
        try:
            connect = sqlite3.connect
            Mortal.execute = execute  # type: ignore[method-assign,assignment]
            sqlite3.connect = lambda *args, **named: connect(*args, factory=Mortal, **named)  # type: ignore[assignment]
            Ledger(path)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
