"""The user's folders: where the ledger, converted models and statistics of public sets are kept.

PRETEXT_HOME names one folder for all of them, with `~` expanded; without it, each lies where the platform puts such
files. Every path is absolute, so a command started elsewhere finds the same ledger.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from pathlib import Path

import platformdirs

from pretext.errors import UsageError
from privacy import Ledger, LedgerError

_log = logging.getLogger("pretext")
_NETWORK = {
    0x6969: "NFS",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x517B: "SMB",
    0x65735546: "FUSE",
    0x5346414F: "AFS",
    0x01021997: "9P",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
}
"""File systems that other machines may share, by the number that statfs(2) gives (linux/magic.h)."""


def user_folder() -> Path:
    """The folder of what must be kept."""
    return _place("", "user_data_dir")


def model_cache_folder() -> Path:
    """The folder of converted models, which can be made again."""
    return _place("models", "user_cache_dir")


def fred_cache_folder() -> Path:
    """The folder of statistics of public sets, which can be made again."""
    return user_folder() / "fred"


def ledger_path() -> Path:
    """The file of the user's ledger, whether it is there or not."""
    return user_folder() / "ledger.sqlite"


def open_ledger() -> Ledger:
    """Open the user's ledger to charge it, made if it is missing; say aloud what else one should know of its place.

    Raises:
        LedgerError: it cannot be opened or made.
    """
    ledger = Ledger(ledger_path())
    if ledger.is_new:
        _log.warning(
            "Made a new ledger, %s: what was charged in any other ledger does not count in it. If one has been kept "
            "before, stop here and set PRETEXT_HOME to its folder.",
            ledger.path,
        )
    if kind := network_file_system(ledger.path.parent):
        _log.warning(
            "The ledger %s lies on a file system that other machines may share (%s). Use it from one machine at a "
            "time: locks between machines may not hold.",
            ledger.path,
            kind,
        )
    return ledger


def read_ledger() -> Ledger:
    """Open the user's ledger to look at it; nothing is made.

    Raises:
        LedgerError: there is none, or it cannot be read.
    """
    path = ledger_path()
    if not path.exists():
        raise LedgerError(
            f"There is no ledger {path}; the first run makes it. If there should be one, set PRETEXT_HOME to "
            "its folder."
        )
    return Ledger(path, make=False)


def network_file_system(folder: Path) -> str | None:
    """Name the kind of a folder's file system if other machines may share it; None if not, or if this is not Linux."""
    if sys.platform != "linux":
        return None
    status = ctypes.create_string_buffer(512)  # struct statfs, which begins with the kind, a long
    if ctypes.CDLL(None).statfs(os.fsencode(folder), status) != 0:
        return None
    return _NETWORK.get(ctypes.c_long.from_buffer(status).value & 0xFFFFFFFF)


def _place(name: str, platform_folder: str) -> Path:
    named = os.environ.get("PRETEXT_HOME")
    try:
        home = Path(named).expanduser() if named else Path(getattr(platformdirs, platform_folder)("pretext"))
    except RuntimeError:
        home = Path()
    try:
        str(home).encode()  # run folders name the ledger, in UTF-8
    except UnicodeEncodeError:
        raise UsageError(
            f"The user's folder {os.fsencode(home).decode(errors='backslashreplace')} has a name that is not UTF-8; "
            "set PRETEXT_HOME to another folder."
        ) from None
    if home.is_absolute():
        return home / name
    if named:
        raise UsageError(
            f"PRETEXT_HOME is {named!r}; it must be an absolute path, for example {Path.cwd() / home}, or every folder "
            "that a command is started in would have a ledger of its own."
        )
    raise UsageError("This user has no home folder; set PRETEXT_HOME to the folder where the ledger is to be kept.")
