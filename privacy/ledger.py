"""The budget of a data set, in SQLite: the only place where noise is drawn.

The ledger is a privacy filter. A budget (epsilon, delta) belongs to a data set, not to a run. `release` checks that
everything ever charged to the data set, composed with the new release, stays within the budget; draws; and commits
charge and noisy value, all in one transaction that locks out every other writer. A crash before the commit leaves
neither charge nor value, and the value was seen by nobody; after the commit both are there, and asking again for the
same label replays the stored value. So no label is drawn twice and no spending is forgotten. Later releases may be
chosen after earlier ones were seen: Gaussian differential privacy composes under such adaptivity at no loss (sources
in `privacy.mechanisms`).

Whatever is written is an entry of the data set's chain (`privacy.chain`); whatever is read, is read along it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from privacy.account import Account, Budget, Release
from privacy.accounting import check_delta, check_epsilon
from privacy.bounding import Bounded
from privacy.chain import append, entries
from privacy.errors import LedgerConflict, LedgerCorrupted, LedgerError, LedgerLocked
from privacy.mechanisms import DiscreteGaussian
from privacy.storage import check, create, now, release_row, stored_account
from privacy.units import Relation, Unit


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
            if not path.exists():
                create(path)
        except OSError as error:
            raise LedgerError(f"The ledger {path} cannot be made: {error.strerror}.") from None
        except sqlite3.Error as error:
            raise self._translated(error) from None
        with self._transaction() as connection:
            check(connection)

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
            self._refuse_alias(connection, name, source, confirmed)
            if not entries(connection, name):
                about = {"name": name, "unit": json.dumps(unit.column), "relation": relation.value}
                append(connection, name, "data_set", about)
                self._insert_budget(connection, name, budget)
            if source not in self._account(connection, name).sources:
                append(connection, name, "source", {"path": source, "data_set": name})
            account = self._account(connection, name)
            if account.unit != unit:
                raise LedgerConflict(
                    f"Data set {name!r} was charged with another privacy unit ({account.unit.words}); now asked is: "
                    f"{unit.words}. Guarantees for different units do not add up; use the same client column, or a "
                    "data set name of its own."
                )
            return account

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

    def account(self, name: str, position: int | None = None) -> Account:
        """Budget and history of one data set; with a position in its chain, as they were when that was its end.

        Raises:
            LedgerConflict: it is unknown.
            LedgerCorrupted: an entry was edited, deleted, added or moved; the message names it.
        """
        with self._transaction() as connection:
            return self._account(connection, name, position)

    def seal(self, name: str, run: str, manifest: str) -> None:
        """Record the digest of a run folder's manifest, unless it is the run's last one already.

        Raises:
            LedgerConflict: the data set is unknown.
        """
        with self._transaction() as connection:
            last = self._account(connection, name).sealed(run)
            if last is None or last.manifest != manifest:
                row = {"data_set": name, "run": run, "manifest": manifest, "time": now()}
                append(connection, name, "seal", row)

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
            LedgerConflict: the label was released for another subject, or the data set is unknown.
        """
        with self._transaction() as connection:
            return _replayed(self._account(connection, name), label, subject)

    def release(
        self, name: str, label: str, subject: str, bounded: Bounded, mechanism: DiscreteGaussian, relation: Relation
    ) -> Release:
        """Check the budget, draw, and commit charge and noisy value in one transaction; a known label is replayed.

        Args:
            name: a registered data set.
            label: names the release within the data set; drawn once for all time.
            subject: a digest of the public question (for votes: of the candidates), so that a replay answers the same
                one.
            bounded: the private value.
            mechanism: the noise.
            relation: the one that `mechanism` was calibrated for; the charge is under the budget's own relation.

        Raises:
            BudgetExceeded: nothing was drawn, nothing charged.
            LedgerConflict: the label was released for another subject, or the data set is unknown.
        """
        with self._transaction() as connection:
            account = self._account(connection, name)
            stored = _replayed(account, label, subject)
            if stored is not None:
                return stored
            asked = mechanism.cost(bounded.dimension, bounded.sensitivity_squared(account.relation))
            account.check(asked)
            noisy = mechanism.draw(bounded)
            row = release_row(name, label, subject, bounded, mechanism, relation, asked, noisy)
            append(connection, name, "release", row)
            drawn = _replayed(self._account(connection, name), label, subject)
        assert drawn is not None  # committed: from here on the value is public
        return drawn

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection that holds the write lock; commits on success, rolls back on any exception."""
        try:
            # Never made here: a ledger that vanished or was emptied must not come back with nothing spent.
            address = f"{self.path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(address, uri=True, timeout=self._patience, isolation_level=None)
            try:
                connection.row_factory = sqlite3.Row
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
        kind = getattr(error, "sqlite_errorname", "")
        if kind.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return LedgerLocked(
                f"The ledger {self.path} is locked by another process; waited {self._patience:g} seconds. "
                "Nothing was charged. Wait for the other run's release to finish, or end that process, then resume."
            )
        if isinstance(error, sqlite3.OperationalError):
            return LedgerError(
                f"The ledger {self.path} cannot be used: {error}. Nothing was charged; mend the cause, then resume."
            )
        return LedgerCorrupted(
            f"The ledger {self.path} is damaged or is not a pretext ledger ({error}). Restore it from a "
            "backup that holds every release; without it nobody knows what was spent, so nothing more is released."
        )

    def _refuse_alias(self, connection: sqlite3.Connection, name: str, source: str, confirmed: bool) -> None:
        names = [row[0] for row in connection.execute("SELECT data_set FROM source WHERE path = ?", (source,))]
        if names and name not in names and not confirmed:
            raise LedgerConflict(
                f"{source} is already charged as data set {names[0]!r}; under the name {name!r} the same people "
                f"would get a second budget. Use the name {names[0]!r}, or, if other people's data lie there now, "
                "confirm it with --confirm-new-name."
            )

    def _insert_budget(self, connection: sqlite3.Connection, name: str, budget: Budget) -> None:
        row = {"data_set": name, "epsilon": float(budget.epsilon), "delta": float(budget.delta), "time": now()}
        append(connection, name, "budget", row)

    def _account(self, connection: sqlite3.Connection, name: str, position: int | None = None) -> Account:
        history = entries(connection, name)
        if not history:
            raise LedgerConflict(
                f"The ledger {self.path} knows no data set {name!r}; `pretext ledger` lists those it knows."
            )
        return stored_account(name, history[:position])


def _replayed(account: Account, label: str, subject: str) -> Release | None:
    release = next((release for release in account.releases if release.label == label), None)
    if release is not None and release.subject != subject:
        raise LedgerConflict(
            f"Release {label!r} of data set {account.name!r} answered another question (its candidates differ from "
            "those in the run folder now). The folder was changed after the release; restore it, or start a new run."
        )
    return release
