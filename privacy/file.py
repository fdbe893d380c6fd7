"""The ledger's file as transactions see it: opened, locked, committed, and every failure told in one sentence."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

from privacy.errors import LedgerCorrupted, LedgerError, LedgerLocked
from privacy.locks import check_locks
from privacy.storage import check, connect, connect_to_read, create, read_identity

_MEND = "Nothing was charged; mend the cause, then try again."


class LedgerFile:
    """A file of a ledger. It is made here, if at all; one that vanishes later does not come back empty.

    Args:
        path: of the file.
        patience: seconds to wait for another process that holds the lock.
        make: make the file and its folder, closed to other users, if they are missing.

    Attributes:
        path: as given.
        identity: of the ledger.
        is_new: whether it was made just now.

    Raises:
        LedgerCorrupted: the file is damaged or not a ledger.
        LedgerError: the file cannot be opened, read, or made.
    """

    def __init__(self, path: Path, patience: float, *, make: bool) -> None:
        self.path = path
        self._patience = patience
        self.is_new = make and not path.exists() and self._make()
        with self._translated("used"), closing(connect_to_read(path, patience)) as connection:
            check(connection)
            self.identity = read_identity(connection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Open a connection that sees one state of the file, and needs no right to write."""
        with self._translated("read"), closing(connect_to_read(self.path, self._patience)) as connection:
            self._check(connection)
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open a connection that holds the write lock; commit on success, roll back on any exception."""
        with self._translated("used"), closing(connect(self.path, self._patience)) as connection:
            check_locks(self.path)
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._check(connection)
                yield connection
            except BaseException:
                connection.rollback()
                raise
            self._commit(connection)

    def _check(self, connection: sqlite3.Connection) -> None:
        """Check that this is the ledger that was opened. Raises sqlite3.DatabaseError."""
        check(connection)
        if read_identity(connection) != self.identity:
            raise sqlite3.DatabaseError("another ledger was put in its place")

    def _commit(self, connection: sqlite3.Connection) -> None:
        """Commit; if that fails, look again before anything is said of what was charged."""
        last = connection.execute("SELECT rowid, digest FROM event ORDER BY rowid DESC LIMIT 1").fetchone()
        try:
            connection.commit()
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            connection.close()
            held = self._holds(last)
            if held is False:
                raise
            outcome = "The change was written all the same" if held else "Whether the change was written is not known"
            raise LedgerError(
                f"The ledger {self.path} reports an error after the last step ({error}). {outcome}; mend the cause, "
                "then resume: what was charged is found there and is not drawn again."
            ) from None

    def _holds(self, row: tuple[int, str] | None) -> bool | None:
        """Look whether the file holds an event as its last one was to be; None if that cannot be told."""
        try:
            with closing(connect_to_read(self.path)) as connection:
                last = "SELECT digest FROM event WHERE rowid = ?"
                return row is not None and connection.execute(last, row[:1]).fetchone() == row[1:]
        except (sqlite3.Error, UnicodeDecodeError):
            return None

    def _make(self) -> bool:
        """Make the file and its folder; say whether this process did. A failure leaves nothing behind."""
        folder, had_folder = self.path.parent, self.path.parent.exists()
        try:
            with self._translated("made"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                check_locks(self.path)
                return create(self.path)
        except LedgerError:
            if not had_folder:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise

    @contextlib.contextmanager
    def _translated(self, purpose: str) -> Iterator[None]:
        """Turn what SQLite and the file system refuse into errors of the ledger, in one sentence each."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._fail(error, purpose)
        except OSError as error:
            raise LedgerError(f"The ledger {self.path} cannot be {purpose}: {error.strerror}. {_MEND}") from None

    def _fail(self, error: sqlite3.Error | UnicodeDecodeError, purpose: str) -> NoReturn:
        kind = getattr(error, "sqlite_errorname", "")
        if kind.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise LedgerLocked(
                f"The ledger {self.path} is locked by another process; waited {self._patience:g} seconds. "
                "Nothing was charged. Wait for the other run's release to finish, or end that process, then resume."
            ) from None
        if isinstance(error, sqlite3.OperationalError):
            raise LedgerError(f"The ledger {self.path} cannot be {purpose}: {error}. {_MEND}") from None
        raise LedgerCorrupted(
            f"The ledger {self.path} is damaged or is not a pretext ledger ({error}). Restore it from a "
            "backup that holds every release; without it nobody knows what was spent, so nothing more is released."
        ) from None
