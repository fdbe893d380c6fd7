"""The ledger in one process: charge and value come together, once, within the budget."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from privacy import (
    Bounded,
    Budget,
    BudgetExceeded,
    DiscreteGaussian,
    InvalidParameter,
    Ledger,
    LedgerConflict,
    LedgerCorrupted,
    LedgerError,
    LedgerLocked,
    Relation,
    Release,
    Unit,
    calibrate,
    chain,
)
from privacy.accounting import LEAST_DELTA
from tests.privacy.helpers import BUDGET, add_up, ask, cost_of_rounds, gaussian, labels, open_ledger, vote


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    return open_ledger(path)


@pytest.fixture
def no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any draw is a failure of the test."""

    def draw(mechanism: DiscreteGaussian, bounded: Bounded) -> None:
        raise AssertionError("noise was drawn")

    monkeypatch.setattr(DiscreteGaussian, "draw", draw)


def edit(path: Path, statement: str, *values: object) -> None:
    """Change the file behind the ledger's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


def edit_schema(path: Path, statement: str, *values: object) -> None:
    """Change the schema in the file, without SQLite making the contents follow."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        assert connection.execute(statement, values).rowcount >= 1


# Release


def test_a_release_holds_all_that_its_cost_is_computed_from(ledger: Ledger) -> None:
    bounded, mechanism = vote(), gaussian(50.0)
    release = ledger.release("forum", "votes/0", "digest", bounded, mechanism, Relation.ADD_REMOVE)
    assert (release.label, release.subject, release.mechanism) == ("votes/0", "digest", mechanism)
    assert (release.dimension, release.norm_squared, release.nonnegative) == (4, bounded.norm_squared, True)
    assert release.relation is Relation.ADD_REMOVE
    assert release.cost(Relation.ADD_REMOVE) == mechanism.cost(4, bounded.sensitivity_squared(Relation.ADD_REMOVE))
    assert release.noisy.shape == (4,)
    assert release.code.startswith("pretext ")
    assert release.time.endswith("+00:00")
    assert ledger.account("forum").spent_epsilon > 0


def test_the_value_is_the_sum_plus_what_was_drawn(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiscreteGaussian, "draw", lambda mechanism, bounded: bounded.value + np.arange(4))
    bounded = vote()
    expected = (bounded.value + np.arange(4)) * bounded.grid
    np.testing.assert_array_equal(ask(ledger, "votes/0"), expected)


def test_replay_returns_the_same_value_and_charges_nothing(ledger: Ledger, path: Path) -> None:
    first = ask(ledger, "votes/0")
    spent = ledger.account("forum").spent
    np.testing.assert_array_equal(ask(ledger, "votes/0"), first)
    np.testing.assert_array_equal(ask(Ledger(path), "votes/0"), first)
    assert ledger.account("forum").spent == spent
    assert labels(ledger.account("forum")) == ["votes/0"]


@pytest.mark.usefixtures("ledger")
def test_replay_draws_nothing(path: Path, request: pytest.FixtureRequest) -> None:
    first = ask(Ledger(path), "votes/0")
    request.getfixturevalue("no_draw")
    np.testing.assert_array_equal(ask(Ledger(path), "votes/0"), first)


def test_replay_without_a_value_to_release(ledger: Ledger) -> None:
    assert ledger.replay("forum", "votes/0", "digest") is None
    first = ask(ledger, "votes/0")
    stored = ledger.replay("forum", "votes/0", "digest")
    assert stored is not None
    np.testing.assert_array_equal(stored.noisy, first)
    assert ledger.replay("forum", "votes/1", "digest") is None


def test_replay_needs_no_budget(ledger: Ledger) -> None:
    first = ask(ledger, "votes/0")
    ledger.set_budget("forum", Budget(1e-3, 1e-6))
    np.testing.assert_array_equal(ask(ledger, "votes/0"), first)


def test_another_subject_is_refused(ledger: Ledger) -> None:
    ask(ledger, "votes/0")
    spent = ledger.account("forum").spent
    with pytest.raises(LedgerConflict, match="another question"):
        ask(ledger, "votes/0", subject="other digest")
    with pytest.raises(LedgerConflict, match="another question"):
        ledger.replay("forum", "votes/0", "other digest")
    assert ledger.account("forum").spent == spent


def test_labels_belong_to_their_dataset(ledger: Ledger) -> None:
    ledger.register("code", "/data/code.csv", Unit("user"), Relation.ADD_REMOVE, BUDGET)
    first = ask(ledger, "votes/0")
    other = ledger.release("code", "votes/0", "digest", vote(), gaussian(50.0), Relation.ADD_REMOVE)
    assert not np.array_equal(first, other.noisy)
    assert ledger.names() == ["code", "forum"]


def test_noise_on_another_grid_leaves_no_trace(ledger: Ledger) -> None:
    wrong = dataclasses.replace(gaussian(50.0), grid=1.0)
    with pytest.raises(InvalidParameter, match="grid"):
        ledger.release("forum", "votes/0", "digest", vote(), wrong, Relation.ADD_REMOVE)
    assert ledger.account("forum").releases == ()


def test_large_values_survive_the_file(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    extremes = np.array([-(2**62), 2**62, -1, 0])
    monkeypatch.setattr(DiscreteGaussian, "draw", lambda mechanism, bounded: extremes)
    np.testing.assert_array_equal(ask(ledger, "votes/0"), extremes * vote().grid)


# Budget


@pytest.mark.usefixtures("no_draw")
def test_over_budget_is_refused_before_anything_is_drawn(ledger: Ledger) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        ask(ledger, "votes/0", noise_multiplier=4.0)
    message = str(caught.value)
    assert "asked is epsilon 1.0" in message
    assert "left is " in message
    assert "Nothing was drawn and nothing was charged" in message
    assert "pretext ledger budget forum --epsilon" in message
    assert ledger.account("forum").releases == ()


def test_the_last_release_that_fits(ledger: Ledger) -> None:
    ask(ledger, "votes/0", noise_multiplier=4.23)
    assert ledger.account("forum").spent_epsilon == pytest.approx(1.0, abs=2e-3)
    with pytest.raises(BudgetExceeded):
        ask(ledger, "votes/1", noise_multiplier=30.0)
    assert labels(ledger.account("forum")) == ["votes/0"]


@pytest.mark.parametrize("relation", list(Relation))
@pytest.mark.parametrize(("target", "delta", "rounds"), [(1.0, 1e-6, 3), (1.29, 3e-6, 11), (7.58, 3e-6, 11)])
def test_a_calibrated_run_uses_the_budget_up(
    path: Path, relation: Relation, target: float, delta: float, rounds: int
) -> None:
    use_up(path, relation, target, delta, rounds)


@pytest.mark.parametrize("rounds", [2, 5, 8, 11])
def test_a_calibrated_run_uses_the_budget_up_to_the_last_bit(path: Path, rounds: int) -> None:
    use_up(path, Relation.ADD_REMOVE, 0.1, 1e-6, rounds)


def use_up(path: Path, relation: Relation, target: float, delta: float, rounds: int) -> None:
    multiplier = calibrate(target, delta, lambda m: cost_of_rounds(m, rounds, dimension=1024, relation=relation))
    mechanism, bounded = gaussian(multiplier, relation), add_up({0: [(0, 1.0)]}, 1024)
    ledger = Ledger(path)
    ledger.register("forum", "/data/forum.csv", Unit("user"), relation, Budget(target, delta))
    for number in range(rounds):
        ledger.release("forum", f"votes/{number}", "digest", bounded, mechanism, relation)
    account = ledger.account("forum")
    assert target - 1e-6 * max(1.0, target) < account.spent_epsilon <= target
    assert account.left_epsilon < 1e-2
    with pytest.raises(BudgetExceeded):
        ledger.release("forum", "one more", "digest", bounded, mechanism, relation)


def test_spending_adds_up_across_runs(path: Path) -> None:
    for run in range(3):
        ask(open_ledger(path), f"run {run}/votes/0", noise_multiplier=10.0)
    account = Ledger(path).account("forum")
    assert account.spent.mu_squared == pytest.approx(3 / 100)


def test_the_charge_is_under_the_relation_of_the_budget(path: Path) -> None:
    ledger = Ledger(path)
    ledger.register("forum", "/data/forum.csv", Unit("user"), Relation.REPLACE_ONE, BUDGET)
    release = ledger.release("forum", "votes/0", "digest", vote(), gaussian(10.0), Relation.ADD_REMOVE)
    assert release.relation is Relation.ADD_REMOVE
    account = ledger.account("forum")
    assert account.relation is Relation.REPLACE_ONE
    assert account.spent.mu_squared == pytest.approx(0.02)
    with pytest.raises(BudgetExceeded, match="replace-one"):
        ledger.release("forum", "votes/1", "digest", vote(), gaussian(4.3), Relation.ADD_REMOVE)
    # What would fit under the relation that the noise was calibrated for, but not under the budget's.
    with pytest.raises(BudgetExceeded):
        ledger.release("forum", "votes/1", "digest", vote(), gaussian(6.0), Relation.ADD_REMOVE)
    assert labels(ledger.account("forum")) == ["votes/0"]


def test_set_budget_keeps_the_history(ledger: Ledger, path: Path) -> None:
    ledger.set_budget("forum", Budget(2.0, 1e-5))
    account = ledger.set_budget("forum", Budget(3.0, 1e-5))
    assert account.budget == ledger.account("forum").budget == Budget(3.0, 1e-5)
    query = "SELECT content ->> 'epsilon', content ->> 'delta' FROM event WHERE content ->> 'epsilon' ORDER BY position"
    with closing(sqlite3.connect(path)) as connection:
        history = connection.execute(query).fetchall()
    assert history == [(1.0, 1e-6), (2.0, 1e-5), (3.0, 1e-5)]


def test_a_raised_budget_lets_the_refused_release_through(ledger: Ledger) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        ask(ledger, "votes/0", noise_multiplier=2.0)
    proposed = float(str(caught.value).split("--epsilon ")[1].split()[0])
    ledger.set_budget("forum", Budget(proposed, 1e-6))
    ask(ledger, "votes/0", noise_multiplier=2.0)


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [(0.0, 1e-6), (float("nan"), 1e-6), (1.0, 0.0), (1.0, 1.0), (1.0, 5e-324), (1.0, 0.99 * LEAST_DELTA)],
)
def test_budget__outside_of_what_can_be_enforced__is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(InvalidParameter):
        Budget(epsilon, delta)
    assert Budget(1.0, LEAST_DELTA).delta == LEAST_DELTA


# Datasets, units and sources


def test_unknown_datasets(ledger: Ledger) -> None:
    for call in (lambda: ledger.account("typo"), lambda: ledger.set_budget("typo", BUDGET)):
        with pytest.raises(LedgerConflict, match="knows no dataset 'typo'"):
            call()
    with pytest.raises(LedgerConflict):
        ledger.release("typo", "votes/0", "digest", vote(), gaussian(50.0), Relation.ADD_REMOVE)


def test_register__after_a_release__keeps_budget_and_relation(ledger: Ledger) -> None:
    ask(ledger, "votes/0")
    account = ledger.register("forum", "/data/forum.csv", Unit("user"), Relation.REPLACE_ONE, Budget(99.0, 0.1))
    assert account.budget == BUDGET
    assert account.relation is Relation.ADD_REMOVE


@pytest.mark.parametrize("unit", [Unit(), Unit("thread")])
def test_another_unit_is_refused(ledger: Ledger, unit: Unit) -> None:
    ask(ledger, "votes/0")
    with pytest.raises(LedgerConflict, match="another privacy unit"):
        ledger.register("forum", "/data/forum.csv", unit, Relation.ADD_REMOVE, BUDGET)


def test_records_stay_records(path: Path) -> None:
    ledger = Ledger(path)
    ledger.register("notes", "/data/notes.csv", Unit(), Relation.ADD_REMOVE, BUDGET)
    assert ledger.account("notes").unit == Unit(None)
    ledger.register("notes", "/data/notes.csv", Unit(), Relation.ADD_REMOVE, BUDGET)


def test_a_dataset_may_have_many_sources(ledger: Ledger) -> None:
    ask(ledger, "votes/0")
    account = ledger.register("forum", "/data/a copy.csv", Unit("user"), Relation.ADD_REMOVE, BUDGET)
    assert account.sources == ("/data/a copy.csv", "/data/forum.csv")


def test_a_second_name_for_the_same_source_is_refused(ledger: Ledger) -> None:
    ask(ledger, "votes/0")
    with pytest.raises(LedgerConflict, match="second budget") as caught:
        ledger.register("forum2", "/data/forum.csv", Unit("user"), Relation.ADD_REMOVE, BUDGET)
    assert "--confirm-new-name" in str(caught.value)
    assert ledger.names() == ledger.names_of("/data/forum.csv") == ["forum"]


def test_a_second_name_can_be_confirmed(ledger: Ledger) -> None:
    ask(ledger, "votes/0")
    ledger.register("forum2", "/data/forum.csv", Unit("user"), Relation.ADD_REMOVE, BUDGET, confirmed=True)
    ledger.release("forum2", "votes/0", "digest", vote(), gaussian(50.0), Relation.ADD_REMOVE)
    assert ledger.names_of("/data/forum.csv") == ["forum", "forum2"]


def test_the_source_of_another_dataset_is_refused_under_a_known_name_too(ledger: Ledger) -> None:
    ask(ledger, "votes/0")
    ledger.register("code", "/data/code.csv", Unit("user"), Relation.ADD_REMOVE, BUDGET)
    ledger.release("code", "votes/0", "digest", vote(), gaussian(50.0), Relation.ADD_REMOVE)
    with pytest.raises(LedgerConflict, match="second budget"):
        ledger.register("code", "/data/forum.csv", Unit("user"), Relation.ADD_REMOVE, BUDGET)
    assert ledger.account("code").sources == ("/data/code.csv",)
    ledger.register("code", "/data/forum.csv", Unit("user"), Relation.ADD_REMOVE, BUDGET, confirmed=True)
    assert ledger.names_of("/data/forum.csv") == ["code", "forum"]


# The file


def test_the_file_is_written_through(path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """WAL, and FULL: a commit that was answered survives a power cut."""
    modes: list[object] = []

    def spying_draw(mechanism: DiscreteGaussian, bounded: Bounded) -> object:
        frame = connections[-1]
        modes.append([frame.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")])
        modes.append(frame.in_transaction)
        return bounded.value

    connections: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def spying_connect(*args: object, **keywords: object) -> sqlite3.Connection:
        connections.append(connect(*args, **keywords))  # type: ignore[call-overload]
        return connections[-1]

    monkeypatch.setattr(DiscreteGaussian, "draw", spying_draw)
    monkeypatch.setattr(sqlite3, "connect", spying_connect)
    ask(ledger, "votes/0")
    assert modes == [["wal", 2], True]


def test_garbage_is_no_ledger(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is not a database at all " * 400)
    with pytest.raises(LedgerCorrupted, match="not a pretext ledger"):
        Ledger(path)
    assert path.read_bytes().startswith(b"this is not")


def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE bookmark (url TEXT)")
    with pytest.raises(LedgerCorrupted, match="does not carry a ledger's mark"):
        Ledger(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("bookmark",)]


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_a_truncated_file_is_refused(path: Path, part: float) -> None:
    ledger = open_ledger(path)
    for number in range(5):
        ledger.release("forum", f"{number}", "d", add_up({}, 1024), gaussian(50.0), Relation.ADD_REMOVE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(LedgerError):
        Ledger(path)
    with pytest.raises(LedgerError):
        ledger.release("forum", "another", "d", add_up({}, 1024), gaussian(50.0), Relation.ADD_REMOVE)


@pytest.mark.usefixtures("no_draw")
def test_a_file_that_vanished_is_not_replaced_by_an_empty_budget(ledger: Ledger, path: Path) -> None:
    path.unlink()
    for call in calls(ledger):
        with pytest.raises(LedgerError, match=r"cannot be (used|read)"):
            call()
    assert list(path.parent.iterdir()) == []


@pytest.mark.usefixtures("no_draw")
def test_a_file_that_is_emptied_under_an_open_ledger_is_refused(ledger: Ledger, path: Path) -> None:
    path.write_bytes(b"")
    for call in calls(ledger):
        with pytest.raises(LedgerError):
            call()
    assert path.read_bytes() == b""


def calls(ledger: Ledger) -> list[Callable[[], object]]:
    """Everything that can be asked of a ledger."""
    return [
        lambda: ask(ledger, "votes/0"),
        lambda: ledger.replay("forum", "votes/0", "digest"),
        lambda: ledger.account("forum"),
        lambda: ledger.set_budget("forum", BUDGET),
        lambda: ledger.register("forum", "/data/forum.csv", Unit("user"), Relation.ADD_REMOVE, BUDGET),
        lambda: ledger.names(),
        lambda: ledger.names_of("/data/forum.csv"),
        lambda: ledger.examine(),
        lambda: ledger.seal("forum", "run", "digest"),
    ]


def test_an_emptied_file_is_refused(ledger: Ledger, path: Path) -> None:
    ask(ledger, "votes/0")
    path.write_bytes(b"")
    with pytest.raises(LedgerCorrupted, match="does not carry a ledger's mark"):
        Ledger(path)
    assert path.read_bytes() == b""


def test_an_empty_file_that_was_never_a_ledger_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with pytest.raises(LedgerCorrupted, match="does not carry a ledger's mark"):
        Ledger(path)
    assert path.read_bytes() == b""


def test_a_link_that_leads_nowhere_is_no_ledger(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(path.parent / "elsewhere.db")
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger(path)
    assert list(path.parent.iterdir()) == [path]


def test_of_two_makers_the_first_one_wins(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the ledger and spends from it while this one is still making its own."""
    link, values = os.link, []

    def link_late(source: Path, target: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", link)
            values.append(ask(open_ledger(path), "votes/0"))
        link(source, target)

    monkeypatch.setattr(os, "link", link_late)
    ledger = Ledger(path)
    assert labels(ledger.account("forum")) == ["votes/0"]
    np.testing.assert_array_equal(ask(ledger, "votes/0"), values[0])
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("schema", ["CREATE TABLE event (name TEXT); garbage;", "SELECT no_such_function();"])
def test_a_ledger_that_cannot_be_made_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, schema: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("privacy.storage._SCHEMA", schema)
        with pytest.raises(LedgerError, match="cannot be made"):
            Ledger(path)
    assert not path.parent.exists(), "nor its folder"
    assert Ledger(path).names() == []


def test_a_new_ledger_is_whole_before_its_log_is_folded_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite hides it when the closing of the log fails, on a full disk say; then the file must not need the log."""
    connect, copies = sqlite3.connect, []

    class Connection(sqlite3.Connection):
        def close(self) -> None:
            for fresh in path.parent.glob(".ledger.db-*"):
                if fresh.stat().st_size and not fresh.name.endswith(("-wal", "-shm", "-journal")):
                    copies.append(shutil.copy(fresh, path.parent / f"copy{len(copies)}.db"))
            super().close()

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *args, **named: connect(*args, **named, factory=Connection))
        Ledger(path)
    assert len(copies) == 2, "as it was made, and as it was looked at before it got its name"
    for copy in copies:
        open_ledger(Path(copy)).examine()


def test_making_a_ledger_leaves_nothing_else(path: Path) -> None:
    Ledger(path)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.usefixtures("no_draw")
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER thief AFTER INSERT ON event BEGIN DELETE FROM event WHERE position = NEW.position; END",
        "ALTER TABLE event ADD COLUMN more TEXT",
        "DROP TABLE head",
        "DROP INDEX release_label",
        "ALTER TABLE head RENAME TO neck; CREATE VIEW head AS SELECT * FROM neck",
    ],
)
def test_other_tables_than_a_ledgers_are_refused_at_each_call(ledger: Ledger, path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statement)
    for call in (lambda: Ledger(path), *calls(ledger)):
        with pytest.raises(LedgerCorrupted, match="its tables are not those of a ledger"):
            call()


@pytest.mark.usefixtures("no_draw")
@pytest.mark.parametrize("version", [0, 2])
def test_a_ledger_of_another_version_is_refused(ledger: Ledger, path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    for call in (lambda: Ledger(path), *calls(ledger)):
        with pytest.raises(LedgerCorrupted, match="another version"):
            call()


def expect_refusal_when_a_run_begins(path: Path, words: str) -> None:
    """`register`, with which every run begins, and `examine` refuse the file."""
    for call in (lambda: open_ledger(path), lambda: Ledger(path).examine()):
        with pytest.raises(LedgerCorrupted, match=words):
            call()


@pytest.mark.usefixtures("ledger")
def test_a_failed_integrity_check_is_refused(path: Path) -> None:
    """A NULL where the schema allows none, brought in by loosening the schema for a moment."""
    loosen = "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'head'"
    edit_schema(path, loosen, "digest TEXT NOT NULL", "digest TEXT")
    edit(path, "UPDATE head SET digest = NULL")
    edit_schema(path, loosen, "digest TEXT", "digest TEXT NOT NULL")
    expect_refusal_when_a_run_begins(path, "integrity check fails")
    with pytest.raises(LedgerCorrupted, match="the head of dataset 'forum' is not as it was written"):
        ask(Ledger(path), "votes/0")


def lose_a_label(path: Path, label: str) -> None:
    """Leave the row alone, and let the indices name it otherwise: what a bad page of an index may do."""
    edit(path, "UPDATE event SET key = 'lost' WHERE key = ?", label)
    indices = "type = 'index' AND sql IS NOT NULL"
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"SELECT * FROM sqlite_master WHERE {indices}").fetchall()
    edit_schema(path, f"DELETE FROM sqlite_master WHERE {indices}")
    edit(path, "UPDATE event SET key = ? WHERE key = 'lost'", label)
    for row in rows:
        edit_schema(path, "INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", *row)


def test_a_label_that_the_index_lost_is_charged_again_and_named(ledger: Ledger, path: Path) -> None:
    """A release cannot see this damage in constant time: it costs budget, never privacy."""
    ask(ledger, "votes/0", noise_multiplier=10.0)
    lose_a_label(path, "votes/0")
    expect_refusal_when_a_run_begins(path, "integrity check fails")
    ask(ledger, "votes/0", noise_multiplier=10.0)
    assert ledger.account("forum").spent.mu_squared == pytest.approx(2 / 100)
    expect_refusal_when_a_run_begins(path, "integrity check fails")


def test_a_dataset_without_its_head_is_refused(ledger: Ledger, path: Path) -> None:
    """Its name must not begin anew, with nothing spent."""
    ask(ledger, "votes/0")
    edit(path, "DELETE FROM head")
    expect_refusal_when_a_run_begins(path, "the datasets that have a head are not those that have events")
    with pytest.raises(LedgerCorrupted, match="the head of dataset 'forum' is gone"):
        ask(ledger, "votes/1")


def set_content(path: Path, change: str, kind: str = "release") -> None:
    edit(path, f"UPDATE event SET {change} WHERE kind = '{kind}'")


def content(name: str, value: str) -> str:
    """A change of one value in the JSON of an event."""
    return f"content = json_set(content, '$.{name}', {value})"


@pytest.mark.parametrize(
    "change",
    [
        "value = zeroblob(32)",
        "value = x'00'",
        "value = substr(value, 1, 24)",
        content("mechanism", "'Laplace'"),
        content("grid", "content ->> 'grid' * 2"),
        content("subject", "'digest '"),
        content("code", "'pretext 9'"),
        content("time", "'1999-01-01T00:00:00+00:00'"),
        content("sigma", "content ->> 'sigma' * 1000"),
        content("norm_squared", "1"),
        content("nonnegative", "json('false')"),
        "balance = json_set(balance, '$.epsilon', 99)",
        "balance = json_set(balance, '$.spent.mu_squared', json('[0, 1]'))",
        "content = CAST(x'7bff7d' AS TEXT)",
    ],
)
def test_an_edited_release_is_refused(ledger: Ledger, path: Path, change: str) -> None:
    ask(ledger, "votes/0")
    set_content(path, change)
    for call in (
        lambda: ask(ledger, "votes/0"),
        lambda: ledger.replay("forum", "votes/0", "digest"),
        lambda: ledger.account("forum"),
        lambda: ask(ledger, "votes/1"),
        lambda: ledger.seal("forum", "run", "digest"),
        lambda: ledger.set_budget("forum", BUDGET),
    ):
        with pytest.raises(LedgerCorrupted, match=r"event 3 .*is not as it was written|can't decode byte 0xff"):
            call()


def test_a_release_that_was_edited_under_later_ones_is_not_replayed(ledger: Ledger, path: Path) -> None:
    """A new label does not read it; asking for it does."""
    for label in ("votes/0", "votes/1"):
        ask(ledger, label)
    edit(path, "UPDATE event SET value = zeroblob(32) WHERE key = 'votes/0'")
    for call in (lambda: ask(ledger, "votes/0"), lambda: ledger.replay("forum", "votes/0", "digest")):
        with pytest.raises(LedgerCorrupted, match="is not as it was written"):
            call()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET content = json_set(content, '$.relation', 'replace-one') WHERE kind = 'registration'",
        "UPDATE event SET content = 'not json' WHERE kind = 'registration'",
        "UPDATE event SET key = '/data/forum.csv/' WHERE kind = 'source'",
        "DELETE FROM event WHERE kind = 'registration'",
        "DELETE FROM event WHERE kind = 'source'",
        "DELETE FROM event WHERE kind = 'release'",
    ],
)
def test_edited_rows_are_called_corruption(ledger: Ledger, path: Path, statement: str) -> None:
    ask(ledger, "votes/0")
    edit(path, statement)
    for call in (
        lambda: ledger.account("forum"),
        lambda: open_ledger(path),
        lambda: ledger.set_budget("forum", BUDGET),
    ):
        with pytest.raises(LedgerCorrupted, match=r"is not as it was written|is gone"):
            call()


def test_a_label_cannot_change_the_kind_of_error(ledger: Ledger, path: Path) -> None:
    ask(ledger, "blocked users/votes/0")
    set_content(path, "value = zeroblob(32)")
    with pytest.raises(LedgerCorrupted):
        ledger.account("forum")


@pytest.mark.usefixtures("no_draw")
def test_each_page_of_the_file_overwritten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(DiscreteGaussian, "draw", lambda mechanism, bounded: bounded.value)
        ledger = open_ledger(path)
        for number in range(5):
            ledger.release("forum", f"{number}", "d", add_up({}, 1024), gaussian(50.0), Relation.ADD_REMOVE)
    whole = path.read_bytes()
    for start in range(0, len(whole), 4096):
        path.write_bytes(whole[:start] + b"\xff" * 4096 + whole[start + 4096 :])
        with pytest.raises(LedgerCorrupted):
            open_ledger(path)


def test_a_flipped_bit_never_makes_a_release_cheaper(path: Path) -> None:
    """Nor a replay another value. A bit that no release reads is found when the next run begins, or lies in no data."""
    ledger = open_ledger(path)
    values = {label: ask(ledger, label) for label in ("votes/0", "votes/1", "votes/2")}
    spent, one = ledger.account("forum").balance.spent, gaussian(50.0).cost(4, vote().norm_squared)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for place, bit in zip(rng.integers(len(whole), size=80), rng.integers(8, size=80), strict=True):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path.write_bytes(bytes(damaged))
        try:
            stored = ledger.replay("forum", "votes/1", "digest")
            assert stored is None or np.array_equal(stored.noisy, values["votes/1"])
            ask(ledger, "votes/3")
            with ledger.file.writing() as connection:
                last = chain.last_entry(connection, "forum")
            assert last is not None and last.balance.spent == spent.plus(one)
        except LedgerError:
            refused += 1
    assert refused > 0


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be used") as caught:
        Ledger(tmp_path)
    assert not isinstance(caught.value, LedgerCorrupted)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be made"):
        Ledger(tmp_path / "file" / "ledger.db")
    with pytest.raises(LedgerError, match="cannot be made"):
        Ledger(tmp_path / "file" / "deeper" / "ledger.db")


@contextmanager
def lock_of_another(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.rollback()


@pytest.mark.usefixtures("no_draw")
def test_a_locked_ledger_says_so_and_draws_nothing(path: Path) -> None:
    ledger = open_ledger(path, patience=0.2)
    with lock_of_another(path), pytest.raises(LedgerLocked, match=r"waited 0.2 seconds"):
        ask(ledger, "votes/0")
    assert ledger.account("forum").releases == ()


def test_an_error_while_drawing_charges_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(mechanism: DiscreteGaussian, bounded: Bounded) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DiscreteGaussian, "draw", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ask(ledger, "votes/0")
    assert ledger.account("forum").releases == ()
    ask(ledger, "votes/0")


def test_refusals_and_reprs_show_no_private_value(ledger: Ledger) -> None:
    """A sum of 1234 votes in one bin is found in nothing but the noisy release."""
    crowd = add_up({client: [(0, 1.0)] for client in range(1234)}, 2)
    planted = {str(int(crowd.value[0])), "1234"}
    wrong = DiscreteGaussian(50.0, 1.0)
    shown = [repr(crowd)]
    for mechanism in (gaussian(0.1), wrong):
        with pytest.raises((BudgetExceeded, InvalidParameter)) as caught:
            ledger.release("forum", "votes/0", "digest", crowd, mechanism, Relation.ADD_REMOVE)
        shown.append(str(caught.value))
    assert not [text for text in shown for secret in planted if secret in text]


def test_releases_are_ordered(ledger: Ledger) -> None:
    for label in ("b", "a", "c"):
        ask(ledger, label)
    releases: tuple[Release, ...] = ledger.account("forum").releases
    assert [release.label for release in releases] == ["b", "a", "c"]


def test_the_sensitivity_comes_from_the_value(ledger: Ledger) -> None:
    """A value with a larger bound on the same grid is charged more for the same noise."""
    # Squared norms of 5 and 16 votes share the grid that 8 has.
    noise = gaussian(50.0)
    for label, norm_squared in (("small", Fraction(5)), ("large", Fraction(16))):
        ledger.release("forum", label, "d", add_up({}, 4, norm_squared), noise, Relation.ADD_REMOVE)
    small, large = ledger.account("forum").releases
    ratio = large.cost(Relation.ADD_REMOVE).mu_squared / small.cost(Relation.ADD_REMOVE).mu_squared
    assert ratio == pytest.approx(16 / 5, rel=1e-6)


def test_open_again__without_a_seal_or_twice__writes_nothing_more(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite")
    ask(ledger, "run/votes/0")
    ledger.open_again("forum", "run")
    assert ledger.last_seal("forum", "run") is None
    ledger.seal("forum", "run", "0" * 64)
    ledger.open_again("forum", "run")
    opened = ledger.account("forum").position
    ledger.open_again("forum", "run")
    assert ledger.account("forum").position == opened


def test_release__an_older_copy_in_the_place_of_the_ledger__is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(path)
    older = tmp_path / "older.sqlite"
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(older)) as target:
        source.backup(target)
    ask(ledger, "run/votes/0")
    with closing(sqlite3.connect(older)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    ask(Ledger(path), "other/votes/0")  # in the place of the release that the copy lacks
    with pytest.raises(LedgerCorrupted):
        ask(ledger, "run/votes/1")
    with pytest.raises(LedgerCorrupted):
        ledger.account("forum")
