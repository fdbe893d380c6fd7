"""The user's folders: where the ledger, converted models and statistics of public sets are kept.

PRETEXT_HOME names one folder for all of them, with `~` expanded; without it, each lies where the platform puts such
files. Every path is absolute, so a command started elsewhere finds the same ledger.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from privacy import Ledger


def user_folder() -> Path:
    """The folder of what must be kept."""
    return _place("", platformdirs.user_data_dir("pretext"))


def model_cache_folder() -> Path:
    """The folder of converted models, which can be made again."""
    return _place("models", f"{platformdirs.user_cache_dir('pretext')}/models")


def fred_cache_folder() -> Path:
    """The folder of statistics of public sets, which can be made again."""
    return user_folder() / "fred"


def ledger_path() -> Path:
    """The file of the user's ledger, whether it is there or not."""
    return user_folder() / "ledger.sqlite"


def open_ledger() -> Ledger:
    """Open the user's ledger, made if it is missing."""
    return Ledger(ledger_path())


def _place(name: str, default: str) -> Path:
    named = os.environ.get("PRETEXT_HOME")
    return (Path(named).expanduser() / name if named else Path(default)).absolute()
