"""What the ledger's file looks like: its tables, how a new one is made, and how an account is stored and read back."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.account import Account, Budget, Release, Seal
from privacy.accounting import Cost, check_delta, check_epsilon
from privacy.bounding import Bounded
from privacy.chain import TABLES, Entry, upgrade
from privacy.mechanisms import DiscreteGaussian
from privacy.units import Relation, Unit

_SCHEMA = f"""
CREATE TABLE data_set (
    name TEXT PRIMARY KEY, unit TEXT NOT NULL, relation TEXT NOT NULL
) STRICT;
CREATE TABLE source (
    path TEXT NOT NULL, data_set TEXT NOT NULL REFERENCES data_set(name), PRIMARY KEY (path, data_set)
) STRICT;
CREATE TABLE budget (
    id INTEGER PRIMARY KEY, data_set TEXT NOT NULL REFERENCES data_set(name), epsilon REAL NOT NULL,
    delta REAL NOT NULL, time TEXT NOT NULL
) STRICT;
CREATE TABLE release (
    id INTEGER PRIMARY KEY, data_set TEXT NOT NULL REFERENCES data_set(name), label TEXT NOT NULL,
    subject TEXT NOT NULL, mechanism TEXT NOT NULL, sigma REAL NOT NULL, grid REAL NOT NULL, dimension INTEGER NOT NULL,
    norm_squared INTEGER NOT NULL, nonnegative INTEGER NOT NULL, relation TEXT NOT NULL, cost TEXT NOT NULL,
    value BLOB NOT NULL, time TEXT NOT NULL, code TEXT NOT NULL, UNIQUE (data_set, label)
) STRICT;
{TABLES}"""
_APPLICATION_ID = 0x70727478
_VERSION = 1


def create(path: Path) -> None:
    """Make a new ledger beside the path and link it there: whole or not at all; of two makers the first one wins."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    fresh = Path(name)
    try:
        connection = sqlite3.connect(fresh, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.close()
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        for leftover in (fresh, Path(f"{name}-wal"), Path(f"{name}-shm")):
            leftover.unlink(missing_ok=True)


def check(connection: sqlite3.Connection) -> None:
    """Whether this is a whole ledger; anything else, an emptied file too, is damage. An old one is brought up to date.

    For use inside a transaction.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise sqlite3.DatabaseError("it does not carry a ledger's mark")
    if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("its integrity check fails")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise sqlite3.DatabaseError("a newer version of the program wrote it; update this one")
    if version < _VERSION:
        upgrade(connection)


def release_row(
    name: str,
    label: str,
    subject: str,
    bounded: Bounded,
    mechanism: DiscreteGaussian,
    relation: Relation,
    cost: Cost,
    noisy: NDArray[np.int64],
) -> dict[str, Any]:
    """A release as it is stored."""
    return {
        "data_set": name,
        "label": label,
        "subject": subject,
        "mechanism": mechanism.name,
        "sigma": float(mechanism.sigma),
        "grid": float(mechanism.grid),
        "dimension": bounded.dimension,
        "norm_squared": bounded.norm_squared,
        "nonnegative": int(bounded.nonnegative),
        "relation": relation.value,
        "cost": json.dumps({"mu_squared": cost.mu_squared, "slack": cost.slack}),
        "value": noisy.astype("<i8").tobytes(),
        "time": now(),
        "code": f"pretext {importlib.metadata.version('pretext')}",
    }


def stored_account(name: str, entries: Sequence[Entry]) -> Account:
    """What the entries of a data set (at least its first one and a budget) come to.

    Raises:
        sqlite3.DatabaseError: a value in them is outside of its range.
    """

    def rows(kind: str) -> list[dict[str, Any]]:
        return [entry.row for entry in entries if entry.kind == kind]

    try:
        about, *_ = rows("data_set")
        position, last = [(number, entry) for number, entry in enumerate(entries, 1) if entry.kind != "seal"][-1]
        budgets = [Budget(row["epsilon"], row["delta"]) for row in rows("budget")]
        check_epsilon(budgets[-1].epsilon)
        check_delta(budgets[-1].delta)
        return Account(
            name,
            Unit(json.loads(about["unit"])),
            Relation(about["relation"]),
            budgets[-1],
            tuple(sorted(row["path"] for row in rows("source"))),
            tuple(map(_stored_release, rows("release"))),
            tuple(Seal(row["run"], row["manifest"], row["time"]) for row in rows("seal")),
            position,
            last.digest,
        )
    except (ValueError, IndexError):
        raise sqlite3.DatabaseError(f"the entry of data set {name!r} is not as it was written") from None


def _stored_release(row: dict[str, Any]) -> Release:
    return Release(
        row["id"],
        row["label"],
        row["subject"],
        DiscreteGaussian(row["sigma"], row["grid"]),
        row["dimension"],
        row["norm_squared"],
        bool(row["nonnegative"]),
        Relation(row["relation"]),
        np.frombuffer(row["value"], dtype="<i8").astype(np.float64) * row["grid"],
        row["time"],
        row["code"],
    )


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
