"""Split a file of private texts by client: 80 % to train on, 10 % to validate on, 10 % to test on.

A hash of its id decides which part a client is in, so the client stays there when the file grows, and in every other
file. The parts are as private as the file: only their owner can read them, and nothing says how many texts they hold.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from pretext.errors import UsageError
from pretext.files import open_atomically, replace_nonfinite
from pretext.identity import normalize_identity
from pretext.tables import Source, check_columns, read_columns

_PROGRAM_FOLDER = Path(__file__).resolve().parents[2]
_UPPER_PERCENTILES = {"train": 80, "validation": 90, "test": 100}


def split_file(source: Source, client_column: str, columns: Sequence[str], folder: Path) -> None:
    """Write train.jsonl, validation.jsonl and test.jsonl into a folder.

    Args:
        source: the private records; those without a client are left out.
        client_column: tells clients apart; kept.
        columns: further columns to keep.
        folder: made if it is missing.

    Raises:
        UsageError: the folder belongs to the program or holds a part already, or the source cannot be read.
    """
    place = Path(os.path.realpath(folder))
    paths = {part: place / f"{part}.jsonl" for part in _UPPER_PERCENTILES}
    if place.is_relative_to(_PROGRAM_FOLDER):
        raise UsageError(f"{folder} is in the program's own folder, where no private text may lie; give another one.")
    if any((parent / "run.json").exists() for parent in (place, *place.parents)):
        raise UsageError(f"{folder} is in a run folder, where no private text may lie; give another one.")
    columns = list(dict.fromkeys([client_column, *columns]))
    check_columns(source, columns)  # before a folder is made
    try:
        _write_parts(source, client_column, columns, paths)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}.") from None


def _write_parts(source: Source, client_column: str, columns: Sequence[str], paths: Mapping[str, Path]) -> None:
    """Write the parts, each whole or not at all. Raises UsageError if one is there already, or OSError."""
    for path in paths.values():
        if path.exists():
            raise UsageError(f"{path} exists already; give another folder with --folder.")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as stack:
        files = {part: stack.enter_context(open_atomically(path, 0o600)) for part, path in paths.items()}
        for batch in read_columns(source, columns):
            _write_batch(batch, client_column, files)


def part_of(client: str) -> str:
    """Return the part that a client is in: "train", "validation" or "test"."""
    percentile = int.from_bytes(hashlib.sha256(f"split/{client}".encode(errors="replace")).digest()[:8]) % 100
    return next(part for part, bound in _UPPER_PERCENTILES.items() if percentile < bound)


def _write_batch(batch: dict[str, list[object]], client_column: str, files: Mapping[str, IO[bytes]]) -> None:
    for values in zip(*batch.values(), strict=True):
        row = dict(zip(batch, values, strict=True))
        client = normalize_identity(row[client_column])
        if client is not None:
            line = json.dumps(replace_nonfinite(row), default=_encode_value) + "\n"
            files[part_of(client)].write(line.encode())


def _encode_value(value: object) -> object:
    """Encode what JSON lacks, such as a date, so that it is read again as the same client."""
    return normalize_identity(value) or str(value)
