"""Write files and folders whole or not at all, and values as JSON lines and parquet.

What is not whole yet lies beside the target under a name of its own, `.NAME-xxxxxxxx.tmp`, and its writer holds a lock
on it (flock). The lock ends with the writer, however it ends. So the next writer of that name finds out which leftovers
nobody holds any more, and removes them.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import json
import math
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias

from privacy.storage import sync_folder

_ROWS_PER_BATCH = 16_384
_PREFIX = 50  # characters of a name, at most 200 bytes: a temporary name must fit into 255
_SUFFIX = ".tmp"
_DAY = 24 * 3600.0
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_UMASK_LOCK = threading.Lock()

Row: TypeAlias = dict[str, str]


@contextmanager
def open_atomically(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a file that takes its name when the block ends: after a crash, `path` is the old file or the new one, whole.

    The temporary file lies beside `path` under a name of its own, so two writers never share one and no prepared link
    is followed; it reaches the disk before it takes the name. A link at `path` is replaced, not followed; a device or a
    pipe is never replaced. The file gets the permissions of any new file, `mode` without what the process masks.

    Raises:
        OSError: the file cannot be written; `path` is as it was (or new, where its folder does not reach the disk).
    """
    _check_replaceable(path)
    remove_leftovers(_siblings(path))
    handle, fresh = _make_held(lambda: tempfile.mkstemp(prefix=_prefix(path), suffix=_SUFFIX, dir=path.parent))
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode & ~_umask())  # mkstemp's files are closed to other users
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(fresh, path)
        sync_folder(path.parent)
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
    with _open_scratch_folder(folder) as fresh:
        yield fresh
        fresh.chmod(0o777 & ~_umask())  # mkdtemp's folders are closed to other users
        os.replace(fresh, folder)


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Fill a new folder that takes the place of `folder` when the block ends; an earlier one is removed afterwards.

    Under that name there is the old folder or the new one, whole, at any moment, where the file system can exchange two
    names (Linux's renameat2). Where it cannot, the old one is moved aside first and lies beside it for that moment.

    Raises:
        OSError: it cannot be written; `folder` is as it was.
    """
    with _open_scratch_folder(folder) as scratch:
        fresh, old = scratch / "new", scratch / "old"
        fresh.mkdir()
        yield fresh
        if folder.exists() and not _exchange(fresh, folder):
            os.replace(folder, old)
        if not folder.exists():
            os.replace(fresh, folder)


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove those of the temporary files and folders that no process holds any more."""
    for path in paths:
        with suppress(OSError):  # gone, or not ours to remove
            _remove_abandoned(path)


def find_temporary(folder: Path) -> Iterator[Path]:
    """Find the temporary files and folders in a folder and below; links are not followed."""
    return (path for path in folder.rglob(f".*{_SUFFIX}") if not path.is_symlink())


def read_file(path: Path) -> bytes:
    """Read a regular file.

    A pipe or a device is refused: reading it could block for ever, or never end.

    Raises:
        OSError: it is none, or cannot be read.
    """
    with open_regular(path) as file:
        return file.read()


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file to read. Raises OSError as `read_file`."""
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # noqa: SIM115, PTH123
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "It is not a regular file", str(path))
    return file


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


def _check_replaceable(path: Path) -> None:
    """Refuse to put a file in the place of a device or a pipe, such as /dev/stdout. Raises OSError."""
    folder = os.path.realpath(path.parent)
    if (path.exists() and not path.is_file()) or folder == "/dev" or folder.startswith("/proc/"):
        raise OSError(errno.EINVAL, "It is not a regular file", str(path))


def _prefix(path: Path) -> str:
    """How the names of temporary files for `path` begin."""
    return f".{path.name[:_PREFIX]}-"


def _siblings(path: Path) -> Iterator[Path]:
    """Find the temporary files and folders for `path`."""
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name.startswith(_prefix(path)) and entry.name.endswith(_SUFFIX) and not entry.is_symlink():
                yield Path(entry.path)


@contextmanager
def _open_scratch_folder(beside: Path) -> Iterator[Path]:
    """Make a folder beside another one, held by this process and removed when the block ends."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(_siblings(beside))

    def make() -> tuple[int, str]:
        name = tempfile.mkdtemp(prefix=_prefix(beside), suffix=_SUFFIX, dir=beside.parent)
        return os.open(name, os.O_RDONLY), name

    handle, scratch = _make_held(make)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(handle)


def _make_held(make: Callable[[], tuple[int, str]]) -> tuple[int, Path]:
    """Make a temporary file or folder and hold it.

    Between making and holding, another process may take it for a leftover and remove it; then another one is made.
    """
    while True:
        handle, name = make()
        with suppress(OSError):  # a file system without locks; see `_remove_abandoned`
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.lexists(name):
            return handle, Path(name)
        os.close(handle)


def _remove_abandoned(path: Path) -> None:
    """Remove a temporary file unless a process holds it; where the file system has no locks, if it is older than a day.

    Raises:
        OSError: a process holds it, or it cannot be removed.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK or time.time() - os.fstat(handle).st_mtime < _DAY:
                raise
        # Its maker may be waiting for this lock, and looks afterwards whether the name is still there.
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _exchange(left: Path, right: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), _RENAME_EXCHANGE) == 0)


def _umask() -> int:
    """Read the process's mask of permissions, which takes setting it.

    One thread at a time: a second one would read the mask that the first one set, and leave it in force.
    """
    with _UMASK_LOCK:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask
