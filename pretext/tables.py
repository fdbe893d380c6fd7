"""Where texts are read: a file, a folder of files, or a Hugging Face dataset, in batches of columns.

All are read by the parsers of `pretext.formats`, record by record, and of a dataset file by file. The loaders of the
library `datasets` infer the types of csv and JSON files from many records at once, even where the dataset's card
declares them. Then one client would change how all others are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

from pretext.errors import UsageError
from pretext.formats.faults import Record, explain_missing_column, find_root, reach_cell
from pretext.formats.listing import CARD, choose_files
from pretext.formats.reading import FORMATS, DataFile, has_known_ending, read_records
from pretext.texts import describe_cell, explain_other_cells, is_usable_text

_BATCH_ROWS = 4096
_BATCH_CHARACTERS = 2**26
_HUB = "hf:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)

ColumnBatch: TypeAlias = dict[str, list[Any]]


@dataclass(frozen=True)
class Source:
    """A file or folder by path, or a Hugging Face dataset by id with subset and split.

    An id is told from a path by its look: `hf:owner/name` is always an id; what exists here, ends as a data file does,
    or begins with an existing folder is a path.
    """

    location: str
    subset: str | None = None
    split: str = "train"

    @property
    def file(self) -> Path | None:
        """The path, unless the location is the id of a dataset; then None."""
        if self.location.startswith(_HUB):
            return None
        path = Path(self.location)
        with suppress(RuntimeError):  # a user whose home is unknown
            path = path.expanduser()
        is_path = _exists(path) or has_known_ending(self.location) or (path.parent.name and path.parent.is_dir())
        return path if is_path or not _HUB_ID.fullmatch(self.location) else None

    @property
    def dataset_id(self) -> str:
        """The id of a dataset, without its mark."""
        return self.location.removeprefix(_HUB)

    @property
    def identity(self) -> str:
        """The source's name in the ledger: the resolved path, or the dataset's id, subset and split."""
        if self.file is not None:
            return os.path.realpath(self.file)  # a loop of links is no error here
        return ":".join(["hf", self.dataset_id, self.subset or "default", self.split])

    @property
    def default_name(self) -> str:
        """A name for people: the file's name without extensions, or the last part of the id."""
        return Path(self.dataset_id).name.split(".")[0] or "data"


def read_columns(source: Source, columns: Sequence[str]) -> Iterator[ColumnBatch]:
    """Read the columns in batches of plain Python values, None where a record lacks a column.

    Raises:
        UsageError: the source is missing, empty, of an unknown format or damaged, or no record has one of the columns.
            Neither the message nor the chain of exceptions quotes its content.
    """
    seen: set[str] = set()
    for records in _read_batches(source, columns):
        seen.update(*records)
        yield {name: [reach_cell(record, name) for record in records] for name in columns}
    _require_columns(source, columns, seen)


def read_texts(source: Source, column: str, most_rows: int | None = None) -> Iterator[str]:
    """Read the usable texts of a column, of all rows or of the first `most_rows`.

    Raises:
        UsageError: as `read_columns`, or the column holds other values and no text.
    """
    cells = chain.from_iterable(batch[column] for batch in read_columns(source, [column]))
    others: set[str] = set()
    has_texts = False
    for cell in islice(cells, most_rows):
        if is_usable_text(cell):
            has_texts = True
            yield cell
        elif (kind := describe_cell(cell)) is not None:
            others.add(kind)
    if others and not has_texts:
        raise UsageError(f"In {source.location}, {explain_other_cells(column, others)}.")


def read_rows(rows: Sequence[Any], columns: Sequence[str], text_column: str) -> Iterator[ColumnBatch]:
    """Read the columns of rows from memory as `read_columns` does; a row that is no mapping is a text alone.

    Raises:
        UsageError: no row has one of the columns.
    """
    records = [row if isinstance(row, Mapping) else {text_column: row} for row in rows]
    for name in columns:
        if records and not any(find_root(name, record) in record for record in records):
            raise UsageError(f"In the given rows, {explain_missing_column(name)}.")
    yield {name: [reach_cell(record, name) for record in records] for name in columns}


def check_columns(source: Source, columns: Sequence[str]) -> None:
    """Check the source and its columns by reading until each was seen once; errors as `read_columns`."""
    seen: set[str] = set()
    for records in _read_batches(source, columns):
        seen.update(*records)
        if all(find_root(name, seen) in seen for name in columns):
            return
    _require_columns(source, columns, seen)


def _require_columns(source: Source, columns: Sequence[str], seen: set[str]) -> None:
    for name in columns:
        if find_root(name, seen) not in seen:
            raise UsageError(f"In {source.location}, {explain_missing_column(name)}.")


def _read_batches(source: Source, columns: Sequence[str]) -> Iterator[list[Record]]:
    """Read batches of records. A library's exception holds content, so none leaves this function."""
    records = _read_all_records(source, columns)
    is_empty = True
    while True:
        batch, failure = _take_batch(records, source)
        if failure is not None:
            raise UsageError(failure)
        if not batch:
            break
        is_empty = False
        yield batch
    if is_empty:
        raise UsageError(f"{source.location} has no rows; it must contain at least one text.")


def _take_batch(records: Iterator[Record], source: Source) -> tuple[list[Record], str | None]:
    """Return the next records, or why there are none."""
    batch: list[Record] = []
    room = _BATCH_CHARACTERS
    try:
        for record in records:
            batch.append(record)
            room -= sum(len(value) for value in record.values() if isinstance(value, str))
            if len(batch) == _BATCH_ROWS or room < 0:
                break
    except UsageError as error:
        return [], str(error)
    except MemoryError:
        return [], f"{source.location} needs more memory than there is; split it into smaller files."
    except Exception as error:
        return [], f"{source.location} cannot be read ({type(error).__name__}); check that it is complete and valid."
    return batch, None


def _read_all_records(source: Source, columns: Sequence[str]) -> Iterator[Record]:
    return chain.from_iterable(read_records(file, columns) for file in _find_files(source))


def _find_files(source: Source) -> Iterator[DataFile]:
    """Find the files that the source names."""
    path = source.file
    if path is None:
        yield from _list_dataset_files(source, None)
        return
    _check_path(path, source.location)
    if path.is_dir():
        yield from _list_dataset_files(source, path)
    else:
        yield DataFile.at(path)


def _list_dataset_files(source: Source, path: Path | None) -> list[DataFile]:
    """List the data files of a split, of a folder or of a dataset on the hub."""
    try:
        files = _list_folder(path) if path is not None else _list_hub(source.dataset_id)
        card = files[CARD].read_text() if CARD in files else ""
        names = choose_files(files, card, source.subset, source.split)
    except Exception as error:
        raise UsageError(_explain_no_dataset(source, type(error).__name__)) from None
    if not names:
        raise UsageError(f"{source.location} has no split {source.split!r} of data files; check subset and split.")
    return [files[name] for name in names]


def _list_folder(folder: Path) -> dict[str, DataFile]:
    """List the files in a folder and below, by their paths in it. Raises OSError if one below cannot be listed."""

    def refuse(error: OSError) -> None:
        raise error

    paths = (Path(place, name) for place, _, names in os.walk(folder, onerror=refuse) for name in names)
    return {path.relative_to(folder).as_posix(): DataFile.at(path) for path in paths}


def _list_hub(dataset_id: str) -> dict[str, DataFile]:
    """List the files of a dataset on the hub, by their paths in it."""
    from huggingface_hub import HfFileSystem

    root, system = f"datasets/{dataset_id}", HfFileSystem()
    return {
        name.removeprefix(f"{root}/"): DataFile(f"hf://{name}", partial(system.open, name, "rb"))
        for name in system.find(root)
    }


def _explain_no_dataset(source: Source, reason: str) -> str:
    if source.file is not None:
        return (
            f"The folder {source.location} cannot be read as a dataset ({reason}); it must hold files with one of the "
            f"endings {FORMATS}. Or give one file."
        )
    return (
        f"{source.location} is neither a local file nor a Hugging Face dataset within reach ({reason}); check the "
        "path, or the id, subset, split and the connection."
    )


def _check_path(path: Path, location: str) -> None:
    if "://" in location:
        raise UsageError(f"{location} is an address; download the file and give its path.")
    if not _is_encodable(location):
        raise UsageError(f"The name {location!r} is not valid UTF-8; rename the file.")
    if not _exists(path):
        raise UsageError(
            f"There is no file {path}; check the path, or write {_HUB}OWNER/NAME for a Hugging Face dataset."
        )
    if not (path.is_file() or path.is_dir()):
        raise UsageError(f"{path} can be read only once, but texts are read several times; write them to a file first.")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path} cannot be read: permission denied.")
    if path.is_file() and path.stat().st_size == 0:
        raise UsageError(f"{path} is empty; it must contain at least one text.")
    if (path / "run.json").exists() and not (path / "README.md").exists():
        raise UsageError(f"The run folder {path} holds no finished texts yet; complete it with `pretext resume`.")


def _is_encodable(name: str) -> bool:
    with suppress(UnicodeEncodeError):
        return bool(name.encode())
    return False


def _exists(path: Path) -> bool:
    with suppress(OSError):  # a name that is too long
        return path.exists()
    return False
