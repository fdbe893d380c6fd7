"""Write files and folders whole or not at all, and values as JSON lines and parquet."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias

_ROWS_PER_BATCH = 16_384
_PREFIX = 50  # characters of a name, at most 200 bytes: a temporary name must fit into 255
_UMASK_LOCK = threading.Lock()

Row: TypeAlias = dict[str, str]


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes its name when the block ends: after a crash, `path` is the old file or the new one, whole.

    The temporary file lies beside `path` under a name of its own, so two writers never share one and no prepared link
    is followed; it reaches the disk before it takes the name. A link at `path` is replaced, not followed. The file gets
    the permissions of any new file.

    Raises:
        OSError: the file cannot be written; `path` is as it was.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:_PREFIX]}-", suffix=".tmp", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # mkstemp's files are closed to other users
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file as `open_atomically` does; text as UTF-8, a lone surrogate as a question mark."""
    with open_atomically(path) as file:
        file.write(content.encode(errors="replace") if isinstance(content, str) else content)


@contextmanager
def make_folder_atomically(folder: Path) -> Iterator[Path]:
    """Fill a folder beside `folder` that takes its name when the block ends; the parent is made if it is missing.

    Raises:
        OSError: `folder` is there and not empty, or cannot be written; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name[:_PREFIX]}-", dir=folder.parent))
    try:
        yield fresh
        fresh.chmod(0o777 & ~_umask())  # mkdtemp's folders are closed to other users
        os.replace(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed writers left in a folder; for the one that finishes work there."""
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def replace_nonfinite(value: Any) -> Any:
    """Put null in place of infinities and NaN, which JSON lacks, wherever they stand in nested values."""
    if isinstance(value, dict):
        return {name: replace_nonfinite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_line(row: Row) -> bytes:
    """Encode a row as a line of JSON; a lone surrogate becomes a question mark."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode(errors="replace")


def write_parquet(rows: Iterator[Row], file: IO[bytes]) -> None:
    """Write at least one row as parquet, batch by batch; all columns are strings."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    batch = list(islice(rows, _ROWS_PER_BATCH))
    schema = pyarrow.schema([(name, pyarrow.string()) for name in batch[0]])
    with ParquetWriter(file, schema, compression="zstd") as writer:
        while batch:
            writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema))
            batch = list(islice(rows, _ROWS_PER_BATCH))


def _umask() -> int:
    """Read the process's mask of permissions, which takes setting it.

    One thread at a time: a second one would read the mask that the first one set, and leave it in force.
    """
    with _UMASK_LOCK:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask
