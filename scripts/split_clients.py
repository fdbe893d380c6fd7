"""Split a file of private texts by client: 80 % to make synthetic texts of, 10 % to look at, 10 % to test on.

    python scripts/split_clients.py FILE --client-column COLUMN --folder FOLDER

FOLDER receives train.jsonl, validation.jsonl and test.jsonl, readable by you alone. Which part a client is in is a hash
of its id: it stays there when the file grows, and in other files too. The column of clients and those named by --column
(default: text) are kept; a record without a client is left out. The parts are as private as FILE. How many texts are in
them is not told.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import IO

from pretext.errors import UsageError
from pretext.tables import Source, read_columns

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = {"train": 80, "validation": 90, "test": 100}  # up to so many of a hundred


def main() -> None:
    """Read the arguments and split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--client-column", default="client_id")
    parser.add_argument(
        "--column", dest="columns", action="append", help="column to keep, besides the clients'; default: text"
    )
    arguments = parser.parse_args()
    try:
        split_file(Source(arguments.file), arguments.client_column, arguments.columns or ["text"], arguments.folder)
    except UsageError as error:
        sys.exit(str(error))


def split_file(source: Source, client_column: str, columns: Sequence[str], folder: Path) -> None:
    """Write the three parts. Raises UsageError if the folder is in the repository or holds a part already."""
    paths = {part: folder.resolve() / f"{part}.jsonl" for part in PARTS}
    if folder.resolve().is_relative_to(REPOSITORY):
        raise UsageError(f"{folder} is in the repository, where no private text may lie; give a folder elsewhere.")
    if there := [path for path in paths.values() if path.exists()]:
        raise UsageError(f"{there[0]} is there already; give another folder with --folder.")
    batches = read_columns(source, list(dict.fromkeys([client_column, *columns])))
    first = next(batches)  # what is wrong with the file shows before a folder is made
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as stack:
        files: dict[str, IO[str]] = {}
        for part, path in paths.items():
            path.touch(mode=0o600)
            files[part] = stack.enter_context(path.open("w", encoding="utf-8"))
        for batch in chain([first], batches):
            _write_batch(batch, client_column, files)


def part_of(client: str) -> str:
    """The part that a client is in."""
    number = int.from_bytes(hashlib.sha256(f"split/{client}".encode(errors="replace")).digest()[:8]) % 100
    return next(part for part, bound in PARTS.items() if number < bound)


def _write_batch(batch: dict[str, list[object]], client_column: str, files: dict[str, IO[str]]) -> None:
    for values in zip(*batch.values(), strict=True):
        row = dict(zip(batch, values, strict=True))
        client = row[client_column]
        if client is not None and client != "":
            files[part_of(str(client))].write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
