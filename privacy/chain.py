"""The chain: every event of a dataset is bound to the one before it, and carries the balance after it.

With the events of a dataset in the order in which they came, and balance_i what the events up to the i-th come to,

    c_i = SHA-256(c_(i-1), dataset, i, event_i, balance_i),    c_0 the identity of the ledger,

and a row of its own, the head, holds i and c_i of the last one. Two things follow.

1. Constant time. `last_entry` recomputes c_i of the last event and compares it with the head. If both agree, that event
   and its balance are those that were appended; so the next release is judged by the sum of all releases without
   reading them. `find` recomputes c_i of one event in the middle. They notice an edited, deleted, added or exchanged
   end of the chain, an edited balance, an edited head, and an edit of the event that is asked for. To `find`, an event
   that was deleted in the middle looks like one that never was: its label is drawn again, and charged again.
2. The whole. `read_chain` walks along all events, recomputes each c_i and each balance, and compares the last one with
   the head. So any event that somebody edited, deleted, added or moved is named.

There is no secret in the chain, hence what it cannot tell: whoever may write the file can rewrite it from any event on,
or cut off its tail together with the head, or delete a dataset as a whole. That is noticed only against a c_i that is
kept elsewhere: `Account.head` goes into every privacy statement, and a seal (`Ledger.seal`) binds a finished run folder
to the chain and the chain to what came before the seal.

Each dataset has a chain of its own: damage to one does not stop the others. No chain of one ledger is one of another.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import TypeVar

from privacy.account import Entry, balance_after
from privacy.events import Event, Release, Reservation, Seal
from privacy.rows import NOT_AN_EVENT, Record, decode, decode_balance, encode, encode_balance
from privacy.storage import read_identity

_Kind = TypeVar("_Kind", Release, Reservation, Seal)
_Row = tuple[int, str, str, str, bytes, str, str]

INSERT = (
    "INSERT INTO event (dataset, position, kind, key, content, value, balance, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
MOVE_HEAD = "INSERT OR REPLACE INTO head (dataset, position, digest) VALUES (?, ?, ?)"
_ALL = "SELECT position, kind, key, content, value, balance, digest FROM event WHERE dataset = ? ORDER BY position"
_LAST = f"{_ALL} DESC LIMIT 1"
_BY_KEY = (
    "SELECT position, kind, key, content, value, balance, digest FROM event "
    "WHERE dataset = ? AND kind = ? AND key = ? ORDER BY position DESC LIMIT 1"
)


def append(connection: sqlite3.Connection, dataset: str, before: Entry | None, event: Event) -> Entry:
    """Write an event behind `before`, the last one of the dataset, and move the head. For use inside a transaction."""
    position = before.position + 1 if before else 1
    balance = balance_after(before.balance if before else None, event)
    record, text = encode(event), encode_balance(balance)
    digest = _digest(before.digest if before else read_identity(connection), dataset, position, record, text)
    connection.execute(INSERT, (dataset, position, *record, text, digest))
    connection.execute(MOVE_HEAD, (dataset, position, digest))
    return Entry(position, event, balance, digest)


def last_entry(connection: sqlite3.Connection, dataset: str) -> Entry | None:
    """Read the last event of a dataset and check it against the head in constant time; None if the dataset is unknown.

    Raises:
        sqlite3.DatabaseError: event or head is not the one that was written.
    """
    row = connection.execute(_LAST, (dataset,)).fetchone()
    entry = None if row is None else _entry(dataset, row, digest_at(connection, dataset, row[0] - 1))
    _check_head(connection, dataset, entry)
    return entry


def find(connection: sqlite3.Connection, dataset: str, kind: type[_Kind], key: str) -> _Kind | None:
    """Find the last event of a kind by its `key` and check it in constant time; None if there is none.

    Raises:
        sqlite3.DatabaseError: it is not the one that was written.
    """
    row = connection.execute(_BY_KEY, (dataset, kind.KIND, key)).fetchone()
    event = None if row is None else _entry(dataset, row, digest_at(connection, dataset, row[0] - 1)).event
    return event if isinstance(event, kind) else None


def read_chain(connection: sqlite3.Connection, dataset: str) -> list[Entry]:
    """Read all events of a dataset, oldest first, and check each one; empty if the dataset is unknown.

    Raises:
        sqlite3.DatabaseError: it is not the chain that was written; the message names the first event that differs.
    """
    entries: list[Entry] = []
    before: Entry | None = None
    for position, row in enumerate(connection.execute(_ALL, (dataset,)), 1):
        if row[0] != position:
            raise sqlite3.DatabaseError(f"event {position} of dataset {dataset!r} is gone")
        entry = _entry(dataset, row, before.digest if before else read_identity(connection))
        try:
            follows = balance_after(before.balance if before else None, entry.event) == entry.balance
        except NOT_AN_EVENT:
            follows = False
        if not follows:
            raise sqlite3.DatabaseError(f"the balance after {_name(dataset, row)} does not follow from the events")
        entries.append(entry)
        before = entry
    _check_head(connection, dataset, before)
    return entries


def _entry(dataset: str, row: _Row, digest_before: str) -> Entry:
    """Decode the event in a row and check its digest."""
    position, *fields, balance, digest = row
    record = Record._make(fields)
    if digest != _digest(digest_before, dataset, position, record, balance):
        raise sqlite3.DatabaseError(f"{_name(dataset, row)} is not as it was written, or not in its place")
    try:
        return Entry(position, decode(record), decode_balance(balance), digest)
    except NOT_AN_EVENT:
        raise sqlite3.DatabaseError(f"{_name(dataset, row)} is none that a ledger writes") from None


def digest_at(connection: sqlite3.Connection, dataset: str, position: int) -> str:
    """Read c_i, with which the chain goes on after event i.

    Raises:
        sqlite3.DatabaseError: there is no such event.
    """
    if position == 0:
        return read_identity(connection)
    query = "SELECT digest FROM event WHERE dataset = ? AND position = ?"
    row = connection.execute(query, (dataset, position)).fetchone()
    if row is None:
        raise sqlite3.DatabaseError(f"event {position} of dataset {dataset!r} is gone")
    return str(row[0])


def _check_head(connection: sqlite3.Connection, dataset: str, last: Entry | None) -> None:
    """Check that the head of a dataset's chain is its last event; where there is none, that there is no head."""
    head = connection.execute("SELECT position, digest FROM head WHERE dataset = ?", (dataset,)).fetchone()
    end = None if last is None else (last.position, last.digest)
    if head == end:
        return
    if head is None:
        raise sqlite3.DatabaseError(f"the head of dataset {dataset!r} is gone")
    if end is None or end[0] < head[0]:
        raise sqlite3.DatabaseError(f"event {head[0]} of dataset {dataset!r} is gone, or the head was moved")
    if end[0] > head[0]:
        raise sqlite3.DatabaseError(f"event {end[0]} of dataset {dataset!r} was added from outside, or the head moved")
    raise sqlite3.DatabaseError(f"the head of dataset {dataset!r} is not as it was written")


def _digest(before: str, dataset: str, position: int, record: Record, balance: str) -> str:
    parts = [before, dataset, position, *record, balance]
    return hashlib.sha256(json.dumps(parts, default=bytes.hex).encode()).hexdigest()


def _name(dataset: str, row: _Row) -> str:
    position, kind, key, *_ = row
    return f"event {position} of dataset {dataset!r} ({kind}{f' {key!r}' if key else ''})"
