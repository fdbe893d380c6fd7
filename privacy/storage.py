"""The ledger's file: its tables, how a new one is made, how it is examined, and how events become rows and back.

table event    every event of every dataset, in the order of its chain (`privacy.chain`)
    dataset, position   the place: positions of a dataset are 1, 2, ...
    kind, key           the kind of the event, and what it is looked up by: the label of a release, the path of a
                        source, the run of a seal
    content             the rest of the event, as JSON
    value               of a release: the noisy sum, 64-bit little-endian integers; otherwise empty
    balance             what the events up to this one come to, as JSON: so the next release reads one row, not all
    digest              binds all of the above to the event before
table head     for every dataset, position and digest of its last event

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
import json
import os
import sqlite3
import tempfile
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, assert_never

import numpy as np

from privacy.account import (
    Balance,
    Budget,
    BudgetChange,
    Event,
    Registration,
    Release,
    RunningCost,
    Seal,
    Source,
)
from privacy.accounting import check_delta, check_epsilon
from privacy.mechanisms import DiscreteGaussian
from privacy.units import Relation, Unit

_SCHEMA = """
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

NOT_AN_EVENT = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
"""What `decode` and `decode_balance` raise of rows that no ledger wrote."""


class Record(NamedTuple):
    """An event as its row holds it."""

    kind: str
    key: str
    content: str
    value: bytes


def create(path: Path) -> None:
    """Make a new ledger beside the path and link it there: whole or not at all; of two makers the first one wins."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    fresh = Path(name)
    try:
        connection = sqlite3.connect(fresh, isolation_level=None)
        # The tables come before the write-ahead log: closing it must not be what writes them, since a disk that is full
        # then goes unnoticed.
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute(f"PRAGMA application_id = {_MARK}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        for leftover in (fresh, *(Path(f"{name}-{suffix}") for suffix in ("journal", "wal", "shm"))):
            leftover.unlink(missing_ok=True)


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


def encode(event: Event) -> Record:
    """Encode an event as a row."""
    match event:
        case Registration():
            about = {"unit": event.unit.column, "relation": event.relation.value}
            return _record(event, "", {**about, **_budget_content(event.budget), "time": event.time})
        case Source():
            return _record(event, event.path, {"time": event.time})
        case BudgetChange():
            return _record(event, "", {**_budget_content(event.budget), "time": event.time})
        case Release():
            return _record(event, event.label, _release_content(event), event.value.astype("<i8").tobytes())
        case Seal():
            return _record(event, event.run, {"manifest": event.manifest, "time": event.time})
        case _:
            assert_never(event)


def decode(record: Record) -> Event:
    """Decode the event in a row. Raise one of NOT_AN_EVENT if there is none."""
    content = json.loads(record.content)
    match record.kind:
        case Registration.KIND:
            unit, relation = Unit(content["unit"]), Relation(content["relation"])
            return Registration(unit, relation, _budget(content), content["time"])
        case Source.KIND:
            return Source(record.key, content["time"])
        case BudgetChange.KIND:
            return BudgetChange(_budget(content), content["time"])
        case Release.KIND:
            return _release(record, content)
        case Seal.KIND:
            return Seal(record.key, content["manifest"], content["time"])
        case _:
            raise ValueError(f"unknown kind {record.kind!r}")


def encode_balance(balance: Balance) -> str:
    """Encode a balance as JSON; its sums are exact: numerator and denominator."""
    return json.dumps(
        {
            "unit": balance.unit.column,
            "relation": balance.relation.value,
            **_budget_content(balance.budget),
            "mu_squared": balance.spent.mu_squared.as_integer_ratio(),
            "slack": balance.spent.slack.as_integer_ratio(),
        }
    )


def decode_balance(text: str) -> Balance:
    """Decode the balance in a row. Raise one of NOT_AN_EVENT if there is none."""
    content = json.loads(text)
    (mu, mu_below), (slack, slack_below) = content["mu_squared"], content["slack"]
    spent = RunningCost(Fraction(mu, mu_below), Fraction(slack, slack_below))
    return Balance(Unit(content["unit"]), Relation(content["relation"]), _budget(content), spent)


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _record(event: Event, key: str, content: dict[str, Any], value: bytes = b"") -> Record:
    return Record(event.KIND, key, json.dumps(content), value)


def _budget_content(budget: Budget) -> dict[str, float]:
    return {"epsilon": float(budget.epsilon), "delta": float(budget.delta)}


def _budget(content: dict[str, Any]) -> Budget:
    budget = Budget(content["epsilon"], content["delta"])
    check_epsilon(budget.epsilon)
    check_delta(budget.delta)
    return budget


def _release_content(release: Release) -> dict[str, Any]:
    return {
        "subject": release.subject,
        "mechanism": release.mechanism.name,
        "sigma": float(release.mechanism.sigma),
        "grid": float(release.mechanism.grid),
        "norm_squared": int(release.norm_squared),
        "nonnegative": bool(release.nonnegative),
        "relation": release.relation.value,
        "time": release.time,
        "code": release.code,
    }


def _release(record: Record, content: dict[str, Any]) -> Release:
    mechanism = DiscreteGaussian(content["sigma"], content["grid"])
    if content["mechanism"] != mechanism.name:
        raise ValueError(f"unknown mechanism {content['mechanism']!r}")
    return Release(
        record.key,
        content["subject"],
        mechanism,
        content["norm_squared"],
        content["nonnegative"],
        Relation(content["relation"]),
        np.frombuffer(record.value, dtype="<i8").astype(np.int64),
        content["time"],
        content["code"],
    )


def _schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()


@functools.cache
def _own_schema() -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return _schema(connection)
