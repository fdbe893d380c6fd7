"""Where ledger and caches lie."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from privacy import Ledger


def model_cache_folder() -> Path:
    """Where converted models are kept: $PRETEXT_HOME/models, or the user's cache folder."""
    home = os.environ.get("PRETEXT_HOME")
    if home:
        return Path(home).expanduser() / "models"
    import platformdirs

    return Path(platformdirs.user_cache_dir("pretext")) / "models"


def user_folder() -> Path:
    """The user's data folder: PRETEXT_HOME, or the platform's place for it."""
    return Path(os.environ.get("PRETEXT_HOME") or platformdirs.user_data_dir("pretext"))


def open_ledger() -> Ledger:
    """The user's ledger."""
    return Ledger(user_folder() / "ledger.sqlite")


def fred_cache_folder() -> Path:
    """Where statistics of public sets are kept."""
    return user_folder() / "fred"
