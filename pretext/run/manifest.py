"""The manifest: digests of all files of a run folder that are part of its result, and its seal in the ledger.

manifest.json lists SHA-256 and size of every such file. Its own SHA-256 is recorded in the chain of the dataset's
history, so a file that is changed later differs from the manifest, and a manifest that is changed with it differs from
the seal. Files that only record how the work went (run.log, timings.json, expansion.json, parts) are left out.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pretext.errors import RunFolderError
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


@dataclass(frozen=True)
class FileDigest:
    """SHA-256 and size of a file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """A run's id, and the digest of every file of its result, by its path in the folder."""

    run: str
    files: dict[str, FileDigest]


_ADAPTER = TypeAdapter(Manifest)


def read_manifest(run: Run) -> Manifest | None:
    """Read the manifest, or None if the run was not sealed yet. Raises RunFolderError if it is damaged."""
    if (stored := run.load(MANIFEST)) is None:
        return None
    try:
        return _ADAPTER.validate_python(stored)
    except ValidationError:
        raise RunFolderError(f"{run.folder / MANIFEST} is damaged; `pretext resume` writes it anew.") from None


def seal_run(run: Run, ledger: Ledger) -> None:
    """Write the manifest and record its digest in the ledger, which is the one that the run is charged to.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    run.save(MANIFEST, asdict(Manifest(run.id, digest_files(run.folder))))
    ledger.seal(run.account.dataset, run.id, file_digest(run.folder / MANIFEST))


def digest_files(folder: Path) -> dict[str, FileDigest]:
    """Compute the digest of every file of the result, by its path in the folder."""
    paths = sorted(path for pattern in _RESULT_FILES for path in folder.glob(pattern) if not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): FileDigest(file_digest(path), path.stat().st_size) for path in paths}


def file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file, read as a stream."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
