"""The chain: every entry in the history of a data set is bound to the one before it.

An entry is a row of one of the tables data_set, source, budget, release and seal. The table `event` lists a data set's
entries in the order in which they came, each with

    c_i = SHA-256(c_(i-1), table, key, all values of the row),    c_0 the empty string,

and an account is read by walking along it. So an entry that anybody edited, deleted, added or moved is noticed by the
next one who reads, unless he went on and computed every later c_i anew. There is no secret in the chain, hence what it
cannot tell: whoever may write the file can rewrite it from any entry on, or cut off its tail, or delete a data set as a
whole. That is noticed only against a c_i that is kept elsewhere: `Account.head` goes into every privacy statement, and
a seal (`Ledger.seal`) binds a finished run folder to the chain and the chain to what came before the seal.

Ledgers of version 0 had no chain; each release carried a digest of itself, the other rows carried none. `upgrade` binds
their rows as it finds them, table by table: what happened to them before is not covered.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_KEYS = {"data_set": "name", "source": "path", "budget": "id", "release": "id", "seal": "id"}
INSERT = {
    "data_set": "INSERT INTO data_set (name, unit, relation) VALUES (:name, :unit, :relation)",
    "source": "INSERT INTO source (path, data_set) VALUES (:path, :data_set)",
    "budget": "INSERT INTO budget (data_set, epsilon, delta, time) VALUES (:data_set, :epsilon, :delta, :time)",
    "release": "INSERT INTO release (data_set, label, subject, mechanism, sigma, grid, dimension, norm_squared, "
    "nonnegative, relation, cost, value, time, code) VALUES (:data_set, :label, :subject, :mechanism, :sigma, :grid, "
    ":dimension, :norm_squared, :nonnegative, :relation, :cost, :value, :time, :code)",
    "seal": "INSERT INTO seal (data_set, run, manifest, time) VALUES (:data_set, :run, :manifest, :time)",
}
_SELECT = {
    "data_set": "SELECT * FROM data_set WHERE name = ?",
    "source": "SELECT * FROM source WHERE data_set = ?",
    "budget": "SELECT * FROM budget WHERE data_set = ? ORDER BY id",
    "release": "SELECT * FROM release WHERE data_set = ? ORDER BY id",
    "seal": "SELECT * FROM seal WHERE data_set = ? ORDER BY id",
}
TABLES = """
CREATE TABLE seal (
    id INTEGER PRIMARY KEY, data_set TEXT NOT NULL REFERENCES data_set(name), run TEXT NOT NULL, manifest TEXT NOT NULL,
    time TEXT NOT NULL
) STRICT;
CREATE TABLE event (
    id INTEGER PRIMARY KEY, data_set TEXT NOT NULL REFERENCES data_set(name), kind TEXT NOT NULL, key TEXT NOT NULL,
    digest TEXT NOT NULL
) STRICT;
PRAGMA user_version = 1;
"""


@dataclass(frozen=True)
class Entry:
    """A row in the history of a data set: the table it is in, its values, and c_i (see above)."""

    kind: str
    row: dict[str, Any]
    digest: str


def append(connection: sqlite3.Connection, name: str, kind: str, row: Mapping[str, Any]) -> None:
    """Insert a row and bind it to the last entry of the data set. For use inside a transaction."""
    identifier = connection.execute(INSERT[kind], row).lastrowid
    _bind(connection, name, kind, {"id": identifier, **row})


def entries(connection: sqlite3.Connection, name: str) -> list[Entry]:
    """The history of a data set, oldest first; empty if it is unknown.

    Raises:
        sqlite3.DatabaseError: it is not the one that was written; the message names the first entry that differs.
    """
    rows = {(kind, str(row[_KEYS[kind]])): row for kind in _KEYS for row in _rows(connection, name, kind)}
    found: list[Entry] = []
    before = ""
    events = connection.execute("SELECT kind, key, digest FROM event WHERE data_set = ? ORDER BY id", (name,))
    for kind, key, digest in events.fetchall():
        row = rows.pop((kind, key), None)
        if row is None:
            raise sqlite3.DatabaseError(f"{_named(kind, key)} is gone")
        before = _chained(before, kind, row)
        if digest != before:
            raise sqlite3.DatabaseError(f"{_named(kind, key)} is not as it was written, or not in its place")
        found.append(Entry(kind, row, digest))
    for kind, key in rows:
        raise sqlite3.DatabaseError(f"{_named(kind, key)} was added from outside")
    return found


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring a ledger of version 0 under the chain, inside a transaction.

    Raises:
        sqlite3.DatabaseError: a release is not as it was written.
    """
    for row in map(dict, connection.execute("SELECT * FROM release").fetchall()):
        identifier, digest = row.pop("id"), row.pop("digest", None)
        if _digest(row) != digest:
            raise sqlite3.DatabaseError(f"release number {identifier} is not as it was written")
    connection.execute("ALTER TABLE release DROP COLUMN digest")
    for statement in filter(str.strip, TABLES.split(";")):
        connection.execute(statement)
    for (name,) in connection.execute("SELECT name FROM data_set ORDER BY name").fetchall():
        for kind in _KEYS:
            for row in _rows(connection, name, kind):
                _bind(connection, name, kind, row)


def _rows(connection: sqlite3.Connection, name: str, kind: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(_SELECT[kind], (name,))]


def _bind(connection: sqlite3.Connection, name: str, kind: str, row: Mapping[str, Any]) -> None:
    last = "SELECT digest FROM event WHERE data_set = ? ORDER BY id DESC LIMIT 1"
    (before,) = connection.execute(last, (name,)).fetchone() or ("",)
    connection.execute(
        "INSERT INTO event (data_set, kind, key, digest) VALUES (?, ?, ?, ?)",
        (name, kind, str(row[_KEYS[kind]]), _chained(before, kind, row)),
    )


def _chained(before: str, kind: str, row: Mapping[str, Any]) -> str:
    key = _KEYS[kind]
    values = {name: value for name, value in row.items() if name != "id"}
    return _digest({"": [before, kind, str(row[key])], **values})


def _digest(row: Mapping[str, Any]) -> str:
    """SHA-256 over all names and values of a row, in the names' order."""
    parts = [(name, value.hex() if isinstance(value, bytes) else value) for name, value in sorted(row.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _named(kind: str, key: str) -> str:
    return f"{kind} number {key}" if _KEYS.get(kind) == "id" else f"{kind.replace('_', ' ')} {key!r}"
