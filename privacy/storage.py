"""The ledger's file: its tables, how a new one is made, and how it is examined.

table ledger   one row: the identity, random and made with the file; run folders name it, and every chain begins with it
table event    every event of every dataset, in the order of its chain (`privacy.chain`)
    dataset, position   the place: positions of a dataset are 1, 2, ...
    kind, key           the kind of the event, and what it is looked up by: the label of a release, the path of a
                        source, the run of a reservation or a seal
    content             the rest of the event, as JSON
    value               of a release: the noisy sum, 64-bit little-endian integers; otherwise empty
    balance             what the events up to this one come to, as JSON: so the next release reads one row, not all
    digest              binds all of the above to the event before
table head     for every dataset, position and digest of its last event

SQLite keeps a write-ahead log beside the file while it is open; with `synchronous` at FULL, a commit is on the disk
before it is answered. Reading needs no right to write, and makes nothing that stays.

The file is checked at two prices. Every transaction looks at mark, version and schema (`check`; the schema, so that no
trigger or view changes what is written), in constant time. The whole file is read (`examine`) where a run begins
(`Ledger.register`) and where somebody asks (`Ledger.examine`): that takes time in proportion to its size, too much for
each release. In between, damage is met in three ways: SQLite refuses a page that cannot be one (it checks the cells of
each page that it reads, `cell_size_check`) and a file shorter than it says; the digests refuse any other content of the
rows that are read; and the cost of a release is added to a balance that the digests bind. What is not met by a release
is damage in rows and pages that it does not read. It cannot make a release cheaper. At worst the index no longer finds
a label, or its row is gone, and the label is drawn, and charged, a second time; `examine` or the whole chain then names
the damage.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import secrets
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

_SCHEMA = """
CREATE TABLE ledger (identity TEXT NOT NULL) STRICT;
CREATE TABLE event (
    dataset TEXT NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, content TEXT NOT NULL,
    value BLOB NOT NULL, balance TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (dataset, position)
) STRICT;
CREATE INDEX event_by_key ON event (kind, key, dataset, position);
CREATE UNIQUE INDEX release_label ON event (dataset, key) WHERE kind = 'release';
CREATE TABLE head (
    dataset TEXT NOT NULL PRIMARY KEY, position INTEGER NOT NULL, digest TEXT NOT NULL
) STRICT;
"""
_MARK = 0x70727478
_VERSION = 1
_DAY = 86_400


def create(path: Path) -> bool:
    """Make a new ledger beside the path and link it there: whole or not at all. Of two makers the first one wins.

    Returns:
        whether this one won.

    Raises:
        OSError, sqlite3.Error: it cannot be made.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    fresh = Path(name)
    try:
        with closing(connect(fresh)) as connection:
            connection.executescript(f"BEGIN; {_SCHEMA}")
            connection.execute("INSERT INTO ledger VALUES (?)", (secrets.token_hex(16),))
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute(f"PRAGMA application_id = {_MARK}")
            connection.commit()
            # The tables come before the write-ahead log: closing it must not be what writes them, since a disk that is
            # full then goes unnoticed.
            connection.execute("PRAGMA journal_mode = WAL")
        with closing(connect(fresh)) as connection:  # as everybody will find it
            check(connection)
            examine(connection)
        try:
            os.link(fresh, path)
        except FileExistsError:
            return False
        sync_folder(path.parent)
        return True
    finally:
        for leftover in (fresh, *(Path(f"{name}-{suffix}") for suffix in ("journal", "wal", "shm"))):
            leftover.unlink(missing_ok=True)


def connect(path: Path, patience: float = 0.0, *, options: str = "mode=rw") -> sqlite3.Connection:
    """Open the file, which must be there, without beginning a transaction.

    A ledger that vanished or was emptied must not come back with nothing spent.
    """
    address = f"{path.absolute().as_uri()}?{options}"
    connection = sqlite3.connect(address, uri=True, timeout=patience, isolation_level=None)
    try:
        connection.text_factory = bytes.decode  # text that is no UTF-8 is damage, like every other byte
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: Path, patience: float = 0.0) -> sqlite3.Connection:
    """Open the file, which must be there, in a transaction that sees one state of it."""
    try:
        return _begin_to_read(connect(path, patience))
    except sqlite3.OperationalError:
        log = Path(f"{path}-wal")
        if os.access(path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
            raise
        # Nothing can be made beside it, not even what coordinates readers, and no log holds what it lacks.
        return _begin_to_read(connect(path, patience, options="immutable=1"))


def _begin_to_read(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        connection.execute("BEGIN")
        connection.execute("PRAGMA schema_version")
    except BaseException:
        connection.close()
        raise
    return connection


def remove_leftovers(path: Path) -> None:
    """Remove what killed makers of the ledger at `path`, and checks of its locks, left beside it over a day ago."""
    for leftover in path.parent.glob(f".{path.name}-*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.lstat().st_mtime > _DAY:
                leftover.unlink()


def read_identity(connection: sqlite3.Connection) -> str:
    """Read the identity of the ledger.

    Raises:
        sqlite3.DatabaseError: there is none, or more than one.
    """
    rows = connection.execute("SELECT identity FROM ledger LIMIT 2").fetchall()
    if len(rows) != 1:
        raise sqlite3.DatabaseError("it does not hold one identity")
    return str(rows[0][0])


def check(connection: sqlite3.Connection) -> None:
    """Check that this is a ledger, in constant time; for use inside a transaction.

    Raises:
        sqlite3.DatabaseError: mark, version or schema is another one; so it is in an emptied file.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != _MARK:
        raise sqlite3.DatabaseError("it does not carry a ledger's mark")
    if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        raise sqlite3.DatabaseError("another version of the program wrote it")
    if _schema(connection) != _own_schema():
        raise sqlite3.DatabaseError("its tables are not those of a ledger")


def examine(connection: sqlite3.Connection) -> None:
    """Read the whole file, as far as it can be judged without the chains; for use inside a transaction.

    Raises:
        sqlite3.DatabaseError: a page, an index or a constraint is damaged, or a dataset has events but no head, or a
            head but no events.
    """
    if connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("its integrity check fails")
    heads = connection.execute("SELECT dataset FROM head ORDER BY dataset").fetchall()
    if connection.execute("SELECT DISTINCT dataset FROM event ORDER BY dataset").fetchall() != heads:
        raise sqlite3.DatabaseError("the datasets that have a head are not those that have events")


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def sync_folder(folder: Path) -> None:
    """Put the names that a folder holds on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()


@functools.cache
def _own_schema() -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return _schema(connection)
