"""The budget of a dataset, in SQLite: the only place where noise is drawn.

The ledger is a privacy filter. A budget (epsilon, delta) belongs to a dataset, not to a run. `release` checks that
everything ever charged to the dataset, composed with the new release, stays within the budget; draws; and commits
charge and noisy value, all in one transaction that locks out every other writer. A crash before the commit leaves
neither charge nor value, and nobody saw the value; after the commit both are there, and asking again for the same label
replays the stored value. So no label is drawn twice and no spending is forgotten. Later releases may be chosen after
earlier ones were seen: Gaussian differential privacy composes under such adaptivity at no loss (sources in
`privacy.mechanisms`).

The ledger is a log of events (`privacy.account`): whatever happens to a dataset is appended to its chain
(`privacy.chain`), and nothing is ever changed. A release, a replay and a seal read the end of the chain and the event
that they ask for: they cost the same with 10 or 100,000 releases before them. The whole chain is read, and checked, by
`register`, with which every run begins, by `set_budget` and by `account`; `register` and `examine` read the whole file
too (`privacy.storage` says what a release may leave for them to notice).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from privacy import chain
from privacy.account import Account, Budget, BudgetChange, Entry, Registration, Release, Seal, Source
from privacy.accounting import check_delta, check_epsilon
from privacy.bounding import Bounded
from privacy.errors import LedgerConflict, LedgerCorrupted, LedgerError, LedgerLocked
from privacy.mechanisms import DiscreteGaussian
from privacy.storage import check, create, examine, now
from privacy.units import Relation, Unit


class Ledger:
    """One file that holds the budgets of all datasets of a user. Safe to use from several processes at once.

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
            raise self._translate(error) from None
        with self._transaction():
            pass

    def register(
        self, name: str, source: str, unit: Unit, relation: Relation, budget: Budget, *, confirmed: bool = False
    ) -> Account:
        """Make the dataset known, or check that what is known agrees. Reads the whole file and the whole chain.

        The budget counts only for a new dataset; a known one keeps its own (see `set_budget`).

        Raises:
            LedgerConflict: the same source is known under another name and `confirmed` is False, or the dataset is
                known with another unit. A second name would start a second budget for the same people.
            LedgerCorrupted: the file, or an event of the dataset, is not as it was written.
        """
        check_epsilon(budget.epsilon)
        check_delta(budget.delta)
        with self._transaction() as connection:
            examine(connection)
            self._refuse_alias(connection, name, source, confirmed)
            entries = chain.read_chain(connection, name)
            if not entries:
                entries.append(chain.append(connection, name, None, Registration(unit, relation, budget, now())))
            account = Account.of(name, entries)
            if account.unit != unit:
                raise LedgerConflict(
                    f"Dataset {name!r} was charged with another privacy unit ({account.unit.words}); now asked is: "
                    f"{unit.words}. Guarantees for different units do not add up; use the same client column, or a "
                    "dataset name of its own."
                )
            if source not in account.sources:
                entries.append(chain.append(connection, name, entries[-1], Source(source, now())))
            return Account.of(name, entries)

    def set_budget(self, name: str, budget: Budget) -> Account:
        """Replace the budget of a known dataset; the old one stays in the history.

        Raises:
            LedgerConflict: the dataset is unknown.
        """
        check_epsilon(budget.epsilon)
        check_delta(budget.delta)
        with self._transaction() as connection:
            entries = self._entries(connection, name)
            entries.append(chain.append(connection, name, entries[-1], BudgetChange(budget, now())))
            return Account.of(name, entries)

    def account(self, name: str, position: int | None = None) -> Account:
        """Read budget and history of one dataset; with a position in its chain, as they were when that was its end.

        Raises:
            LedgerConflict: the dataset is unknown, or the position is below 1.
            LedgerCorrupted: an event was edited, deleted, added or moved; the message names it.
        """
        with self._transaction() as connection:
            entries = self._entries(connection, name)
        if position is not None and position < 1:
            raise LedgerConflict(f"The chain of dataset {name!r} begins with position 1, not {position}.")
        return Account.of(name, entries[:position])

    def examine(self) -> None:
        """Check the file as a whole: its pages, its indices, its datasets. Takes time in proportion to its size.

        Raises:
            LedgerCorrupted: it is damaged.
        """
        with self._transaction() as connection:
            examine(connection)

    def seal(self, name: str, run: str, manifest: str) -> None:
        """Record the digest of a run folder's manifest, unless it is the run's last one already.

        Raises:
            LedgerConflict: the dataset is unknown.
        """
        with self._transaction() as connection:
            last = self._last_entry(connection, name)
            seal = chain.find(connection, name, Seal, run)
            if seal is None or seal.manifest != manifest:
                chain.append(connection, name, last, Seal(run, manifest, now()))

    def names(self) -> list[str]:
        """List the datasets that this ledger knows."""
        with self._transaction() as connection:
            return [row[0] for row in connection.execute("SELECT dataset FROM head ORDER BY dataset")]

    def names_of(self, source: str) -> list[str]:
        """List the datasets that were read from `source`."""
        with self._transaction() as connection:
            return _names_of(connection, source)

    def replay(self, name: str, label: str, subject: str) -> Release | None:
        """Read the stored release of `label`; None if it was never released.

        Raises:
            LedgerConflict: the label was released for another subject, or the dataset is unknown.
        """
        with self._transaction() as connection:
            self._last_entry(connection, name)
            return _replay(connection, name, label, subject)

    def release(
        self, name: str, label: str, subject: str, bounded: Bounded, mechanism: DiscreteGaussian, relation: Relation
    ) -> Release:
        """Check the budget, draw, and commit charge and noisy value in one transaction; a known label is replayed.

        Args:
            name: a registered dataset.
            label: names the release within the dataset; drawn once for all time.
            subject: a digest of the public question (for votes: of the candidates), so that a replay answers the same
                one.
            bounded: the private value.
            mechanism: the noise.
            relation: the one that `mechanism` was calibrated for; the charge is under the budget's own relation.

        Raises:
            BudgetExceeded: nothing was drawn, nothing charged.
            LedgerConflict: the label was released for another subject, or the dataset is unknown.
        """
        with self._transaction() as connection:
            last = self._last_entry(connection, name)
            release = _replay(connection, name, label, subject)
            if release is None:
                balance = last.balance
                balance.check(name, mechanism.cost(bounded.dimension, bounded.sensitivity_squared(balance.relation)))
                release = _draw(label, subject, bounded, mechanism, relation)
                chain.append(connection, name, last, release)
        return release  # committed: from here on the value is public

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Open a connection that holds the write lock; commit on success, roll back on any exception."""
        try:
            # Never made here: a ledger that vanished or was emptied must not come back with nothing spent.
            address = f"{self.path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(address, uri=True, timeout=self._patience, isolation_level=None)
            try:
                connection.text_factory = bytes.decode  # text that is no UTF-8 is damage, like every other byte
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA cell_size_check = ON")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    check(connection)
                    yield connection
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
            finally:
                connection.close()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._translate(error) from None

    def _translate(self, error: sqlite3.Error | UnicodeDecodeError) -> LedgerError:
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
        names = _names_of(connection, source)
        if names and name not in names and not confirmed:
            raise LedgerConflict(
                f"{source} is already charged as dataset {names[0]!r}; under the name {name!r} the same people "
                f"would get a second budget. Use the name {names[0]!r}, or, if other people's data lie there now, "
                "confirm it with --confirm-new-name."
            )

    def _last_entry(self, connection: sqlite3.Connection, name: str) -> Entry:
        last = chain.last_entry(connection, name)
        if last is None:
            raise self._unknown(name)
        return last

    def _entries(self, connection: sqlite3.Connection, name: str) -> list[Entry]:
        entries = chain.read_chain(connection, name)
        if not entries:
            raise self._unknown(name)
        return entries

    def _unknown(self, name: str) -> LedgerConflict:
        return LedgerConflict(
            f"The ledger {self.path} knows no dataset {name!r}; `pretext ledger` lists those it knows."
        )


def _names_of(connection: sqlite3.Connection, source: str) -> list[str]:
    query = "SELECT DISTINCT dataset FROM event WHERE kind = 'source' AND key = ? ORDER BY dataset"
    return [row[0] for row in connection.execute(query, (source,))]


def _replay(connection: sqlite3.Connection, name: str, label: str, subject: str) -> Release | None:
    release = chain.find(connection, name, Release, label)
    if release is not None and release.subject != subject:
        raise LedgerConflict(
            f"Release {label!r} of dataset {name!r} answered another question (its candidates differ from "
            "those in the run folder now). The folder was changed after the release; restore it, or start a new run."
        )
    return release


def _draw(label: str, subject: str, bounded: Bounded, mechanism: DiscreteGaussian, relation: Relation) -> Release:
    code = f"pretext {importlib.metadata.version('pretext')}"
    norm_squared, nonnegative = bounded.norm_squared, bounded.nonnegative
    noisy = mechanism.draw(bounded)
    return Release(label, subject, mechanism, norm_squared, nonnegative, relation, noisy, now(), code)
