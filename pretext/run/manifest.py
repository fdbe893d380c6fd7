"""The manifest: digests of all files of a run folder that are part of its result, and its seal in the ledger.

manifest.json lists SHA-256 and bytes of every such file. Its own SHA-256 is recorded in the chain of the dataset's
history, so a file that is changed later differs from the manifest, and a manifest that is changed with it differs from
the seal. Files that only tell how the work went (run.log, timings.json, expansion.json, parts) are left out.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from pretext.errors import RunFolderError
from pretext.files import remove_leftovers
from pretext.run.folder import Run
from privacy import Ledger

MANIFEST = "manifest.json"
_RESULT_FILES = (
    "config.toml",
    "run.json",
    "population/*.json",
    "positions/*.npy",
    "selected/*.json",
    "seeds.jsonl",
    "query.json",
    "ranking.json",
    "privacy.json",
    "README.md",
    "synthetic.jsonl",
    "synthetic.parquet",
    "synthetic/*",
)
_log = logging.getLogger("pretext")


def seal_run(run: Run, ledger: Ledger) -> None:
    """Write the manifest and record its digest under the dataset that the statement names.

    Where the ledger is not the one that the run was charged to (a folder that was carried elsewhere to be expanded),
    the manifest is written all the same, and a warning says that it is not sealed.

    Raises:
        RunFolderError: the folder cannot be written, or holds no statement.
    """
    remove_leftovers(run.folder)
    run.save(MANIFEST, {"run": run.id, "files": digest_files(run.folder)})
    name = charged_dataset(run)
    if _holds_releases(ledger, name, run):
        ledger.seal(name, run.id, file_digest(run.folder / MANIFEST))
    else:
        _log.warning(
            "The ledger %s does not hold this run's releases as dataset %r: what was written is listed in %s, but not "
            "sealed.",
            ledger.path,
            name,
            run.folder / MANIFEST,
        )


def _holds_releases(ledger: Ledger, name: str, run: Run) -> bool:
    """Whether it is this ledger that the run was charged to, and not one with a dataset of the same name."""
    stated = {release["label"] for release in run.load("privacy.json")["releases"]}
    return name in ledger.names() and stated <= {release.label for release in ledger.account(name).releases}


def charged_dataset(run: Run) -> str:
    """The dataset that the statement names. Raises RunFolderError if there is no whole statement."""
    try:
        return str(run.load("privacy.json")["dataset"]["name"])
    except (KeyError, TypeError):
        raise RunFolderError(
            f"{run.folder} holds no whole privacy.json; `pretext resume {run.folder}`, or the same `pretext fred` "
            "again, writes it at no cost."
        ) from None


def digest_files(folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and bytes of every file of the result, by its path in the folder."""
    paths = sorted(path for pattern in _RESULT_FILES for path in folder.glob(pattern) if not path.name.startswith("."))
    return {
        path.relative_to(folder).as_posix(): {"sha256": file_digest(path), "bytes": path.stat().st_size}
        for path in paths
    }


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read as a stream."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
