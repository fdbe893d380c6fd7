"""Notice a file system that refuses locks, or only pretends to grant them, as some network file systems do.

The budget rests on a lock: only one process at a time may check it and charge it. So before the first write in a
process, a second process asks for a lock that this one holds, and must fail. Both go through SQLite, hence through the
very calls that guard the ledger.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from privacy.errors import LedgerError

_ASK = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute('BEGIN IMMEDIATE')"
_REMEDY = "Nothing was charged. Keep the ledger on a local disk: set PRETEXT_HOME to a folder there."
_checked: set[tuple[int, int]] = set()
"""Processes and file systems that passed; a forked process is another one."""


def check_locks(path: Path) -> None:
    """Check that a lock beside the ledger at `path` keeps other processes out; once for a process and a file system.

    Raises:
        LedgerError: the file system refuses locks, or grants the same one twice.
        OSError: nothing can be written there.
    """
    place = (os.getpid(), path.parent.stat().st_dev)
    if place in _checked:
        return
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    try:
        with closing(sqlite3.connect(name, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise LedgerError(f"The file system of the ledger {path} refuses locks ({error}). {_REMEDY}") from None
            ask = [sys.executable, "-I", "-S", "-c", _ASK, name]
            child = subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True)  # noqa: S603 (our own words)
    finally:
        Path(name).unlink(missing_ok=True)
    if child.returncode == 0:
        raise LedgerError(
            f"The file system of the ledger {path} grants one lock to two processes at once, so a budget could be "
            f"spent twice. {_REMEDY}"
        )
    _checked.add(place)
