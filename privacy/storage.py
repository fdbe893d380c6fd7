"""What the ledger's file looks like: its tables, how a new one is made, and how a release is stored and read back."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import os
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.account import Release
from privacy.accountant import Cost
from privacy.bounding import Bounded
from privacy.mechanisms import DiscreteGaussian
from privacy.unit import Relation

_SCHEMA = """
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
    value BLOB NOT NULL, digest TEXT NOT NULL, time TEXT NOT NULL, code TEXT NOT NULL, UNIQUE (data_set, label)
) STRICT;
"""
_APPLICATION_ID = 0x70727478
INSERT = """INSERT INTO release (data_set, label, subject, mechanism, sigma, grid, dimension, norm_squared,
    nonnegative, relation, cost, value, digest, time, code) VALUES (:data_set, :label, :subject, :mechanism, :sigma,
    :grid, :dimension, :norm_squared, :nonnegative, :relation, :cost, :value, :digest, :time, :code)"""


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
    """Whether this is a whole ledger; anything else, an emptied file too, is damage."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise sqlite3.DatabaseError("it does not carry a ledger's mark")
    if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("its integrity check fails")


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
    """A release as it is stored, sealed by a digest over all of it."""
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
        "value": noisy.astype("<i8").tobytes(),
        "time": now(),
        "code": f"pretext {importlib.metadata.version('pretext')}",
    }
    return {**row, "digest": _digest(row)}


def _digest(row: Mapping[str, Any]) -> str:
    """SHA-256 over everything in a row but its number and the digest itself."""
    parts = [(key, value.hex() if isinstance(value, bytes) else value) for key, value in sorted(row.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def stored_release(row: sqlite3.Row) -> Release:
    """A release read back. Raises sqlite3.DatabaseError if it is not as it was written."""
    stored = dict(row)
    identifier, digest = stored.pop("id"), stored.pop("digest")
    if _digest(stored) != digest:
        raise sqlite3.DatabaseError(f"release number {identifier} is not as it was written")
    return Release(
        identifier,
        stored["label"],
        stored["subject"],
        DiscreteGaussian(stored["sigma"], stored["grid"]),
        stored["dimension"],
        stored["norm_squared"],
        bool(stored["nonnegative"]),
        Relation(stored["relation"]),
        np.frombuffer(stored["value"], dtype="<i8").astype(np.float64) * stored["grid"],
        stored["time"],
        stored["code"],
    )


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
