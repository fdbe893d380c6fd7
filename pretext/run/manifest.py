"""The manifest: digests of all files of a run folder that are part of its result, and its seal in the ledger.

manifest.json lists SHA-256 and size of every such file. Its own SHA-256 is recorded in the chain of the dataset's
history, so a file that is changed later differs from the manifest, and a manifest that is changed with it differs from
the seal. Files that only record how the work went (run.log, timings.json, parts) are left out. Whatever else lies in
the folder, and every link, is a stray: it is none of ours, and `pretext privacy verify` names it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pretext.errors import RunFolderError
from pretext.files import open_regular
from pretext.run.folder import Run
from privacy import Ledger

MANIFEST = "manifest.json"
_NEXT_MANIFEST = "manifest.next.json"
_RESULT = re.compile(
    r"config\.toml|run\.json|population/\d{3,}\.json|positions/\d{3,}\.npy|selected/\d{3,}\.json|seeds\.jsonl|"
    r"profile/\d{3,}(?:\.released)?\.json|profile/\d{3,}\.npy|writer\.json|"
    r"adapter/(?:adapter_config\.json|adapter_model\.safetensors|adaptation\.json)|"
    r"adapter/(?:config|generation_config|model\.safetensors\.index|tokenizer|tokenizer_config|special_tokens_map|"
    r"added_tokens|vocab)\.json|adapter/(?:model(?:-\d{5}-of-\d{5})?\.safetensors|chat_template\.jinja|merges\.txt|"
    r"tokenizer\.model)|"
    r"query\.json|ranking\.json|privacy\.json|README\.md|expansion\.json|synthetic\.(?:jsonl|parquet)|"
    r"synthetic/\d{5,}\.(?:jsonl|parquet)",
    re.ASCII,
)
_WORK = re.compile(r"manifest(?:\.next)?\.json|run\.log|timings\.json|synthetic\.\d{5,}\.part|\.lock", re.ASCII)
_FOLDERS = frozenset({"population", "positions", "selected", "profile", "adapter", "synthetic"})


@dataclass(frozen=True)
class FileDigest:
    """SHA-256 and size of a file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Contents:
    """What lies in a run folder.

    Attributes:
        files: the digest of every file of the result, by its path in the folder.
        strays: what is no file of ours, by its path: what it is, in words.
    """

    files: dict[str, FileDigest]
    strays: dict[str, str]


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
    run.save(_NEXT_MANIFEST, asdict(Manifest(run.id, read_contents(run.folder).files)))
    ledger.seal(run.account.dataset, run.id, file_digest(run.folder / _NEXT_MANIFEST))
    finish_seal(run, ledger)


def finish_seal(run: Run, ledger: Ledger) -> None:
    """Let a manifest take its name once the ledger has its digest; remove one that was not sealed before a kill."""
    path = run.folder / _NEXT_MANIFEST
    if path.is_symlink() or not path.is_file():
        return
    seal = ledger.last_seal(run.account.dataset, run.id)
    with run.writing():
        if seal is not None and seal.manifest == file_digest(path):
            os.replace(path, run.folder / MANIFEST)
        else:
            path.unlink()


def read_contents(folder: Path) -> Contents:
    """Compute the digest of every file of the result, and find what does not belong there.

    Raises:
        RunFolderError: a file or folder in there cannot be read.
    """
    contents = Contents({}, {})
    try:
        for path in sorted(_walk(folder)):
            name = path.relative_to(folder).as_posix()
            if (stray := _describe_stray(path, name)) is not None:
                contents.strays[name] = stray
            elif _RESULT.fullmatch(name):
                contents.files[name] = FileDigest(file_digest(path), path.stat().st_size)
    except OSError as error:
        raise RunFolderError(f"{error.filename or folder} cannot be read: {error.strerror}.") from None
    return contents


def is_name_of_ours(name: str) -> bool:
    """Whether a path in a run folder is one that the program writes."""
    return bool(_RESULT.fullmatch(name) or _WORK.fullmatch(name)) or name.split("/")[0] in _FOLDERS


def _walk(folder: Path) -> Iterator[Path]:
    """List what lies in a run folder and in the folders that belong to it."""
    for path in folder.iterdir():
        if path.name in _FOLDERS and path.is_dir() and not path.is_symlink():
            yield from path.iterdir()
        else:
            yield path


def _describe_stray(path: Path, name: str) -> str | None:
    """Say what something is that is no file of ours; None if it is one."""
    if path.is_symlink():
        return "a link"
    if path.is_dir():
        return "a folder"
    if not path.is_file():
        return "no regular file"
    return None if _RESULT.fullmatch(name) or _WORK.fullmatch(name) else "an unknown file"


def file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file, read as a stream."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
