"""Killed at any point of a release, the ledger holds charge and value both, or neither; and no label has two values."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from privacy import Bounded, Budget, BudgetExceeded, Cost, DiscreteGaussian, Ledger, LedgerConflict, Relation, epsilon
from privacy.chain import INSERT, MOVE_HEAD
from privacy.locks import check_locks
from privacy.storage import check, examine
from tests.privacy.helpers import BUDGET, DELTA, ask, labels, open_ledger

# The children do nothing but release and die; no thread of the parent is waited for.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


def die() -> None:
    """Like a power cut for the process: no finally clause, no rollback, no buffer written."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_before_draw() -> None:
    DiscreteGaussian.draw = lambda mechanism, bounded: die()  # type: ignore[method-assign,assignment,return-value]


def die_after_draw() -> None:
    draw = DiscreteGaussian.draw

    def draw_and_die(mechanism: DiscreteGaussian, bounded: Bounded) -> NDArray[np.int64]:
        draw(mechanism, bounded)
        die()
        raise AssertionError

    DiscreteGaussian.draw = draw_and_die  # type: ignore[method-assign,assignment]


def with_connection(**methods: Callable[..., object]) -> Callable[[], None]:
    """From now on, connections have these methods."""

    def patch() -> None:
        connect = sqlite3.connect
        mortal = type("Mortal", (sqlite3.Connection,), methods)
        sqlite3.connect = lambda *args, **keywords: connect(*args, factory=mortal, **keywords)

    return patch


def die_after(deadly: str) -> Callable[..., sqlite3.Cursor]:
    """An `execute` that does not survive this statement."""

    def execute(connection: sqlite3.Connection, statement: str, *values: object) -> sqlite3.Cursor:
        cursor = sqlite3.Connection.execute(connection, statement, *values)  # type: ignore[arg-type]
        if statement == deadly:
            assert cursor.rowcount == 1
            assert connection.in_transaction
            die()
        return cursor

    return execute


def commit_and_die(connection: sqlite3.Connection) -> None:
    sqlite3.Connection.commit(connection)
    die()


BEFORE_COMMIT: dict[str, Callable[[], None]] = {
    "before draw": die_before_draw,
    "after draw": die_after_draw,
    "event written, head not moved": with_connection(execute=die_after(INSERT)),
    "head moved": with_connection(execute=die_after(MOVE_HEAD)),
    "before commit": with_connection(commit=lambda connection: die()),
}
AFTER_COMMIT: dict[str, Callable[[], None]] = {
    "after commit": with_connection(commit=commit_and_die),
    "before close": with_connection(close=lambda connection: die()),
}
POINTS = BEFORE_COMMIT | AFTER_COMMIT


def is_killed(act: Callable[[], object]) -> bool:
    """Whether a child that does this is killed over it."""
    child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os._exit(1)  # never reached by a killed child
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def crash(path: Path, point: str, label: str, noise_multiplier: float = 50.0) -> bool:
    """Release `label` in a child that is killed at `point`; whether it got that far."""

    def act() -> None:
        ledger = Ledger(path)
        check_locks(path)  # done with before it dies
        POINTS[point]()
        ask(ledger, label, noise_multiplier)

    return is_killed(act)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    open_ledger(tmp_path / "ledger.db")
    return tmp_path / "ledger.db"


@pytest.mark.parametrize("point", BEFORE_COMMIT)
def test_killed_before_the_commit_there_is_neither_charge_nor_value(path: Path, point: str) -> None:
    assert crash(path, point, "votes/0")
    ledger = Ledger(path, patience=0.2)  # the dead process holds no lock
    assert ledger.account("forum").spent == Cost()
    assert ledger.replay("forum", "votes/0", "digest") is None
    ask(ledger, "votes/0")
    assert labels(ledger.account("forum")) == ["votes/0"]


@pytest.mark.parametrize("point", AFTER_COMMIT)
def test_killed_after_the_commit_there_are_both_and_the_value_is_replayed(
    path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert crash(path, point, "votes/0", noise_multiplier=10.0)
    ledger = Ledger(path, patience=0.2)
    assert ledger.account("forum").spent.mu_squared == pytest.approx(0.01)
    monkeypatch.setattr(DiscreteGaussian, "draw", lambda mechanism, bounded: pytest.fail("drawn twice"))
    first = ask(ledger, "votes/0", noise_multiplier=10.0)
    np.testing.assert_array_equal(ask(ledger, "votes/0", noise_multiplier=10.0), first)
    assert labels(ledger.account("forum")) == ["votes/0"]


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_leaves_earlier_releases_alone(path: Path, point: str) -> None:
    first = ask(Ledger(path), "votes/0")
    assert crash(path, point, "votes/1")
    np.testing.assert_array_equal(ask(Ledger(path), "votes/0"), first)


def die_after_temporary_file() -> None:
    make = tempfile.mkstemp

    def make_and_die(*arguments: object, **keywords: object) -> None:
        make(*arguments, **keywords)  # type: ignore[call-overload]
        die()

    tempfile.mkstemp = make_and_die  # type: ignore[assignment]


def half_a_script(connection: sqlite3.Connection, script: str) -> None:
    for statement in script.split(";")[:2]:
        connection.execute(statement)
    die()


def die_after_part(part: str) -> Callable[..., sqlite3.Cursor]:
    """An `execute` that does not survive a statement in which this is found."""

    def execute(connection: sqlite3.Connection, statement: str, *values: object) -> sqlite3.Cursor:
        cursor = sqlite3.Connection.execute(connection, statement, *values)  # type: ignore[arg-type]
        if part in statement:
            die()
        return cursor

    return execute


def die_before_link() -> None:
    os.link = lambda *arguments: die()  # type: ignore[assignment]


def die_after_link() -> None:
    link = os.link

    def link_and_die(*arguments: object) -> None:
        link(*arguments)  # type: ignore[arg-type]
        die()

    os.link = link_and_die  # type: ignore[assignment]


BEFORE_LINK: dict[str, Callable[[], None]] = {
    "temporary file made": die_after_temporary_file,
    "before the tables": with_connection(executescript=lambda connection, script: die()),
    "half of the tables": with_connection(executescript=half_a_script),
    "marked": with_connection(execute=die_after_part("application_id =")),
    "identity made": with_connection(execute=die_after_part("INSERT INTO ledger")),
    "before commit": with_connection(commit=lambda connection: die()),
    "after commit": with_connection(commit=commit_and_die),
    "before close": with_connection(close=lambda connection: die()),
    "before link": die_before_link,
}
MAKING = BEFORE_LINK | {"after link": die_after_link}


@pytest.mark.parametrize("point", MAKING)
def test_killed_while_the_ledger_is_made_there_is_none_or_a_whole_one(tmp_path: Path, point: str) -> None:
    path = tmp_path / "ledger.db"

    def act() -> None:
        check_locks(path)
        MAKING[point]()
        Ledger(path)

    assert is_killed(act)
    assert list(tmp_path.glob(".ledger.db-*")), "it died in the middle"
    assert path.exists() == (point not in BEFORE_LINK)
    if path.exists():
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            check(connection)
            examine(connection)
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables == {"event", "head", "ledger"}
    assert Ledger(path, patience=0.2).names() == []
    first = ask(open_ledger(path), "votes/0")
    np.testing.assert_array_equal(ask(Ledger(path), "votes/0"), first)
    assert labels(Ledger(path).account("forum")) == ["votes/0"]


class LedgerMachine(RuleBasedStateMachine):
    """The ledger against a dictionary, with kills and reopenings in between."""

    label = st.sampled_from(["a", "b", "c", "d", "e"])
    multiplier = st.sampled_from([4.5, 6.0, 10.0, 50.0])
    subject = st.sampled_from(["digest", "digest", "digest", "other"])

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.db"
        self.ledger = open_ledger(self.path)
        self.budget = BUDGET
        self.released: dict[str, tuple[str, float, bytes | None]] = {}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def mu_squared(self) -> float:
        return math.fsum(multiplier**-2 for _, multiplier, _ in self.released.values())

    def fits(self, multiplier: float) -> bool:
        return epsilon(Cost(self.mu_squared() + multiplier**-2), DELTA) <= self.budget.epsilon

    @rule(label=label, multiplier=multiplier, subject=subject)
    def release(self, label: str, multiplier: float, subject: str) -> None:
        if label in self.released:
            first_subject, first_multiplier, value = self.released[label]
            if subject != first_subject:
                with pytest.raises(LedgerConflict):
                    ask(self.ledger, label, multiplier, subject)
                return
            again = ask(self.ledger, label, multiplier, subject).tobytes()
            assert value in (None, again)
            self.released[label] = (subject, first_multiplier, again)
        elif self.fits(multiplier):
            value = ask(self.ledger, label, multiplier, subject).tobytes()
            self.released[label] = (subject, multiplier, value)
        else:
            with pytest.raises(BudgetExceeded):
                ask(self.ledger, label, multiplier, subject)

    @rule(label=label, multiplier=multiplier, point=st.sampled_from(sorted(POINTS)))
    def crash(self, label: str, multiplier: float, point: str) -> None:
        if label in self.released or not self.fits(multiplier):
            return
        assert crash(self.path, point, label, multiplier)
        if point in AFTER_COMMIT:
            self.released[label] = ("digest", multiplier, None)  # nobody has seen the value yet

    @rule()
    def reopen(self) -> None:
        self.ledger = Ledger(self.path)

    @rule(highest=st.sampled_from([0.5, 1.0, 1.5]))
    def set_budget(self, highest: float) -> None:
        self.budget = Budget(highest, DELTA)
        self.ledger.set_budget("forum", self.budget)

    @precondition(lambda self: hasattr(self, "ledger"))
    @invariant()
    def the_charge_is_that_of_the_values(self) -> None:
        account = self.ledger.account("forum")
        assert set(labels(account)) == set(self.released)
        assert len(account.releases) == len(self.released)
        assert account.spent.mu_squared == pytest.approx(self.mu_squared(), rel=1e-9)
        assert account.relation is Relation.ADD_REMOVE


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
