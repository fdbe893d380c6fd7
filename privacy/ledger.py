"""The budget of a data set, in SQLite: the only place where noise is drawn.

The ledger is a privacy filter. A budget (epsilon, delta) belongs to a data set, not to a run. `release` checks that
everything ever charged to the data set, composed with the new release, stays within the budget; draws; and commits
charge and noisy value, all in one transaction that locks out every other writer. A crash before the commit leaves
neither charge nor value, and the value was seen by nobody; after the commit both are there, and asking again for the
same label replays the stored value. So no label is drawn twice and no spending is forgotten. Later releases may be
chosen after earlier ones were seen: Gaussian differential privacy composes under such adaptivity at no loss (sources
in `privacy.mechanisms`).
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privacy.account import Account, Budget, Release
from privacy.accountant import Cost, check_delta, check_epsilon
from privacy.bounding import Bounded
from privacy.errors import LedgerConflict, LedgerCorrupted, LedgerError, LedgerLocked
from privacy.mechanisms import DiscreteGaussian
from privacy.unit import Relation, Unit

_SCHEMA = """
CREATE TABLE IF NOT EXISTS data_set (
    name TEXT PRIMARY KEY, unit TEXT NOT NULL, relation TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS source (
    path TEXT NOT NULL, data_set TEXT NOT NULL REFERENCES data_set(name), PRIMARY KEY (path, data_set)
) STRICT;
CREATE TABLE IF NOT EXISTS budget (
    id INTEGER PRIMARY KEY, data_set TEXT NOT NULL REFERENCES data_set(name), epsilon REAL NOT NULL,
    delta REAL NOT NULL, time TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS release (
    id INTEGER PRIMARY KEY, data_set TEXT NOT NULL REFERENCES data_set(name), label TEXT NOT NULL,
    subject TEXT NOT NULL, mechanism TEXT NOT NULL, sigma REAL NOT NULL, grid REAL NOT NULL, dimension INTEGER NOT NULL,
    norm_squared INTEGER NOT NULL, nonnegative INTEGER NOT NULL, relation TEXT NOT NULL, cost TEXT NOT NULL,
    value BLOB NOT NULL, digest TEXT NOT NULL, time TEXT NOT NULL, code TEXT NOT NULL, UNIQUE (data_set, label)
) STRICT;
"""
_APPLICATION_ID = 0x70727478


class Ledger:
    """One file that holds the budgets of all data sets of a user. Safe to use from several processes at once.

    Args:
        path: the SQLite file; it and its folder are made if they are missing.
        patience: seconds to wait for another process that holds the lock.

    Raises:
        LedgerCorrupted: the file is damaged or not a ledger.
        LedgerError: the file cannot be opened or written.
    """

    def __init__(self, path: Path, patience: float = 30.0) -> None:
        self.path = path
        self._patience = patience
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"The ledger's folder {path.parent} cannot be made: {error.strerror}.") from None
        with self._transaction() as connection:
            self._prepare(connection)

    def register(
        self, name: str, source: str, unit: Unit, relation: Relation, budget: Budget, *, confirmed: bool = False
    ) -> Account:
        """Make the data set known, or check that what is known agrees.

        The budget counts only for a new data set; a known one keeps its own (see `set_budget`).

        Raises:
            LedgerConflict: the same source is known under another name and `confirmed` is False, or the data set is
                known with another unit. A second name would start a second budget for the same people.
        """
        check_epsilon(budget.epsilon)
        check_delta(budget.delta)
        with self._transaction() as connection:
            known = connection.execute("SELECT unit FROM data_set WHERE name = ?", (name,)).fetchone()
            if known is None:
                self._refuse_alias(connection, name, source, confirmed)
                row = (name, json.dumps(unit.column), relation.value)
                connection.execute("INSERT INTO data_set VALUES (?, ?, ?)", row)
                self._insert_budget(connection, name, budget)
            elif json.loads(known[0]) != unit.column:
                raise LedgerConflict(
                    f"Data set {name!r} was charged with another privacy unit ({Unit(json.loads(known[0])).words}); "
                    "now asked is: "
                    f"{unit.words}. Guarantees for different units do not add up; use the same client column, or a "
                    "data set name of its own."
                )
            connection.execute("INSERT OR IGNORE INTO source VALUES (?, ?)", (source, name))
            return self._account(connection, name)

    def set_budget(self, name: str, budget: Budget) -> Account:
        """Replace the budget of a known data set; the old one stays in the history.

        Raises:
            LedgerConflict: the data set is unknown.
        """
        check_epsilon(budget.epsilon)
        check_delta(budget.delta)
        with self._transaction() as connection:
            self._account(connection, name)
            self._insert_budget(connection, name, budget)
            return self._account(connection, name)

    def account(self, name: str) -> Account:
        """Budget and history of one data set. Raises LedgerConflict if it is unknown."""
        with self._transaction() as connection:
            return self._account(connection, name)

    def names(self) -> list[str]:
        """The data sets that this ledger knows."""
        with self._transaction() as connection:
            return [row[0] for row in connection.execute("SELECT name FROM data_set ORDER BY name")]

    def names_of(self, source: str) -> list[str]:
        """The data sets that were read from `source`."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT data_set FROM source WHERE path = ? ORDER BY data_set", (source,))
            return [row[0] for row in rows]

    def replay(self, name: str, label: str, subject: str) -> Release | None:
        """The stored release of `label`, or None if it was never released.

        Raises:
            LedgerConflict: the label was released for another subject.
        """
        with self._transaction() as connection:
            return self._replay(connection, name, label, subject)

    def release(
        self, name: str, label: str, subject: str, bounded: Bounded, mechanism: DiscreteGaussian, relation: Relation
    ) -> Release:
        """Check the budget, draw, and commit charge and noisy value in one transaction; a known label is replayed.

        Args:
            name: a registered data set.
            label: names the release within the data set; drawn once for all time.
            subject: a digest of the public question (for votes: of the candidates), so that a replay answers the same
            one. bounded: the private value.
            mechanism: the noise.
            relation: the one that `mechanism` was calibrated for; the charge is under the budget's own relation.

        Raises:
            BudgetExceeded: nothing was drawn, nothing charged.
            LedgerConflict: the label was released for another subject, or the data set is unknown.
        """
        with self._transaction() as connection:
            stored = self._replay(connection, name, label, subject)
            if stored is not None:
                return stored
            account = self._account(connection, name)
            asked = mechanism.cost(bounded.dimension, bounded.sensitivity_squared(account.relation))
            account.check(asked)
            noisy = mechanism.draw(bounded)
            _insert_release(connection, name, label, subject, bounded, mechanism, relation, asked, noisy)
            drawn = self._replay(connection, name, label, subject)
        assert drawn is not None  # committed: from here on the value is public
        return drawn

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection that holds the write lock; commits on success, rolls back on any exception."""
        try:
            connection = sqlite3.connect(self.path, timeout=self._patience, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self._translated(error) from None

    def _translated(self, error: sqlite3.Error) -> LedgerError:
        reason = str(error)
        if "locked" in reason or "busy" in reason:
            return LedgerLocked(
                f"The ledger {self.path} is locked by another process; waited {self._patience:g} seconds. "
                "Nothing was charged. Wait for the other run's release to finish, or end that process, then resume."
            )
        if isinstance(error, sqlite3.OperationalError) and "malformed" not in reason:
            return LedgerError(
                f"The ledger {self.path} cannot be used: {reason}. Nothing was charged; mend the cause, then resume."
            )
        return LedgerCorrupted(
            f"The ledger {self.path} is damaged or is not a pretext ledger ({reason}). Restore it from a backup; "
            "without it "
            "nobody knows what was spent, so nothing more is released."
        )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if owner != _APPLICATION_ID and tables:
            raise sqlite3.DatabaseError("it is some other program's database")
        if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("its integrity check fails")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")

    def _refuse_alias(self, connection: sqlite3.Connection, name: str, source: str, confirmed: bool) -> None:
        row = connection.execute("SELECT data_set FROM source WHERE path = ? LIMIT 1", (source,)).fetchone()
        if row is not None and not confirmed:
            raise LedgerConflict(
                f"{source} is already charged as data set {row[0]!r}; the new name {name!r} would give the same "
                "people a second budget. "
                f"Use the name {row[0]!r}, or, if other people's data lie there now, confirm it with "
                "--confirm-new-name."
            )

    def _insert_budget(self, connection: sqlite3.Connection, name: str, budget: Budget) -> None:
        connection.execute(
            "INSERT INTO budget (data_set, epsilon, delta, time) VALUES (?, ?, ?, ?)",
            (name, budget.epsilon, budget.delta, _now()),
        )

    def _account(self, connection: sqlite3.Connection, name: str) -> Account:
        row = connection.execute("SELECT unit, relation FROM data_set WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise LedgerConflict(
                f"The ledger {self.path} knows no data set {name!r}; `pretext ledger` lists those it knows."
            )
        budget = connection.execute(
            "SELECT epsilon, delta FROM budget WHERE data_set = ? ORDER BY id DESC LIMIT 1", (name,)
        ).fetchone()
        sources = connection.execute("SELECT path FROM source WHERE data_set = ? ORDER BY path", (name,)).fetchall()
        releases = connection.execute(f"{_SELECT} WHERE data_set = ? ORDER BY id", (name,)).fetchall()
        return Account(
            name,
            Unit(json.loads(row[0])),
            Relation(row[1]),
            Budget(*budget),
            tuple(source[0] for source in sources),
            tuple(_release(entry) for entry in releases),
        )

    def _replay(self, connection: sqlite3.Connection, name: str, label: str, subject: str) -> Release | None:
        row = connection.execute(f"{_SELECT} WHERE data_set = ? AND label = ?", (name, label)).fetchone()
        if row is None:
            return None
        release = _release(row)
        if release.subject != subject:
            raise LedgerConflict(
                f"Release {label!r} of data set {name!r} answered another question (its candidates differ from those "
                "in the run folder now). The folder was changed after the release; restore it, or start a new run."
            )
        return release


_SELECT = """SELECT id, label, subject, mechanism, sigma, grid, dimension, norm_squared, nonnegative, relation, value,
    digest, time, code FROM release"""

_INSERT = """INSERT INTO release (data_set, label, subject, mechanism, sigma, grid, dimension, norm_squared, nonnegative,
    relation, cost, value, digest, time, code) VALUES (:data_set, :label, :subject, :mechanism, :sigma, :grid, :dimension,
    :norm_squared, :nonnegative, :relation, :cost, :value, :digest, :time, :code)"""


def _insert_release(
    connection: sqlite3.Connection,
    name: str,
    label: str,
    subject: str,
    bounded: Bounded,
    mechanism: DiscreteGaussian,
    relation: Relation,
    cost: Cost,
    noisy: NDArray[np.int64],
) -> None:
    value = noisy.astype("<i8").tobytes()
    row = {
        "data_set": name,
        "label": label,
        "subject": subject,
        "mechanism": mechanism.name,
        "sigma": mechanism.sigma,
        "grid": mechanism.grid,
        "dimension": bounded.dimension,
        "norm_squared": bounded.norm_squared,
        "nonnegative": int(bounded.nonnegative),
        "relation": relation.value,
        "cost": json.dumps({"mu_squared": cost.mu_squared, "slack": cost.slack}),
        "value": value,
        "digest": hashlib.sha256(value).hexdigest(),
        "time": _now(),
        "code": f"pretext {importlib.metadata.version('pretext')}",
    }
    connection.execute(_INSERT, row)


def _release(row: tuple[object, ...]) -> Release:
    (
        identifier,
        label,
        subject,
        name,
        sigma,
        grid,
        dimension,
        norm_squared,
        nonnegative,
        relation,
        value,
        digest,
        time,
        code,
    ) = row
    assert isinstance(sigma, float) and isinstance(grid, float) and isinstance(value, bytes)
    mechanism = DiscreteGaussian(sigma, grid)
    if name != mechanism.name or hashlib.sha256(value).hexdigest() != digest or len(value) != 8 * int(str(dimension)):
        raise sqlite3.DatabaseError(f"the stored value of release {label!r} does not match its digest")
    return Release(
        int(str(identifier)),
        str(label),
        str(subject),
        mechanism,
        int(str(dimension)),
        int(str(norm_squared)),
        bool(nonnegative),
        Relation(relation),
        np.frombuffer(value, dtype="<i8").astype(np.float64) * grid,
        str(time),
        str(code),
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
