"""Split a file of private texts by client: 80 % to train on, 10 % to validate on, 10 % to test on.

A hash of its id decides which part a client is in, so the client stays there when the file grows, and in every other
file. The parts are as private as the file: only their owner can read them, and nothing says how many texts they hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from pretext.errors import UsageError
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
    paths = {part: folder.resolve() / f"{part}.jsonl" for part in _UPPER_PERCENTILES}
    if folder.resolve().is_relative_to(_PROGRAM_FOLDER):
        raise UsageError(f"{folder} is in the program's own folder, where no private text may lie; give another one.")
    for path in paths.values():
        if path.exists():
            raise UsageError(f"{path} exists already; give another folder with --folder.")
    columns = list(dict.fromkeys([client_column, *columns]))
    check_columns(source, columns)  # before a folder is made
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as stack:
        files: dict[str, IO[str]] = {}
        for part, path in paths.items():
            path.touch(mode=0o600)
            files[part] = stack.enter_context(path.open("w", encoding="utf-8"))
        for batch in read_columns(source, columns):
            _write_batch(batch, client_column, files)


def part_of(client: str) -> str:
    """Return the part that a client is in: "train", "validation" or "test"."""
    percentile = int.from_bytes(hashlib.sha256(f"split/{client}".encode(errors="replace")).digest()[:8]) % 100
    return next(part for part, bound in _UPPER_PERCENTILES.items() if percentile < bound)


def _write_batch(batch: dict[str, list[object]], client_column: str, files: dict[str, IO[str]]) -> None:
    for values in zip(*batch.values(), strict=True):
        row = dict(zip(batch, values, strict=True))
        client = normalize_identity(row[client_column])
        if client is not None:
            files[part_of(client)].write(json.dumps(row) + "\n")
