"""One process works in a run folder at a time: it holds a lock on the file `.lock` there, and removes it at the end.

The lock (flock) ends with its process, however that ends, so a folder is never left locked. Commands that only read,
such as `pretext report`, need no lock: every file in there is written whole.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pretext.errors import PretextError, RunFolderError
from pretext.files import find_temporary, remove_leftovers
from pretext.run.folder import LOCK_FILE, explain_write_errors, vanished_error


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process until the block ends; it is made if it is missing.

    What killed processes left unfinished in there is removed first. A folder that was made here and is still empty at
    the end is removed again. One that somebody took away meanwhile is the reason of whatever went wrong in the block,
    so only that is said.

    Raises:
        RunFolderError: another process works there, the folder cannot be written, or it went away.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = _acquire(folder)
        place = os.open(folder, os.O_RDONLY)
    try:
        remove_leftovers(find_temporary(folder))
        yield
        _check_in_place(place, folder)
    except (PretextError, OSError, KeyboardInterrupt):
        _check_in_place(place, folder)
        raise
    finally:
        if _is_same(handle, folder / LOCK_FILE):  # a folder at rest holds nothing that no digest covers
            with suppress(OSError):
                (folder / LOCK_FILE).unlink()
        if made and _is_same(place, folder):
            _remove_empty(made)
        os.close(place)
        os.close(handle)


def is_at_work(folder: Path) -> bool:
    """Say whether a process holds a run folder. Nothing is made or changed; a missing folder is held by nobody."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _acquire(folder: Path) -> int:
    """Take the lock and write this process into it. Raises RunFolderError, or OSError."""
    path = folder / LOCK_FILE
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 20).decode(errors="replace").strip()
            os.close(handle)
            raise RunFolderError(
                f"Another process{f' ({holder})' if holder.isdigit() else ''} works in {folder}; wait until it has "
                "ended, or end it, then give the same command again."
            ) from None
        except OSError:
            os.close(handle)
            raise
        if _is_same(handle, path):
            break
        os.close(handle)  # whoever held it removed it in between
    with suppress(OSError):  # a full disk: then the refusal of a second process names no number
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
    return handle


def _is_same(handle: int, path: Path) -> bool:
    """Whether what is open here still lies there."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False


def _check_in_place(place: int, folder: Path) -> None:
    if not _is_same(place, folder):
        raise vanished_error(folder) from None


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders, the innermost first, as long as there is nothing in them."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
