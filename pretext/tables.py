"""Read columns of a file or of a Hugging Face dataset, in batches.

The parsers read files record by record and never infer a type from other records. A loader that infers a column's type
from all of its cells lets one client change how every other client's text is read, and then no bound on one client's
votes bounds what that client changes. Hugging Face datasets have types that their publisher fixed; the library
`datasets` reads them.

Parsers quote the content that they fail on, so neither their messages nor their exceptions leave this module.
"""

from __future__ import annotations

import csv
import gzip
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias

from pretext.errors import UsageError

_FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".parquet": "parquet"}
_BATCH_ROWS = 4096

ColumnBatch: TypeAlias = dict[str, list[Any]]
_Record: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A file by path, or a Hugging Face dataset by id with subset and split."""

    location: str
    subset: str | None = None
    split: str = "train"

    @property
    def file(self) -> Path | None:
        """The path if the location names a file, by its extension or by existing; else None."""
        path = Path(self.location).expanduser()
        return path if _detect_format(path) is not None or path.exists() else None

    @property
    def identity(self) -> str:
        """The source's name in the ledger: the resolved path, or the dataset's id, subset and split."""
        if self.file is not None:
            return str(self.file.resolve())
        return ":".join(["hf", self.location, self.subset or "default", self.split])

    @property
    def default_name(self) -> str:
        """A name for people: the file's name without extensions, or the last part of the id."""
        return Path(self.location).name.split(".")[0] or "data"


def read_columns(source: Source, columns: Sequence[str]) -> Iterator[ColumnBatch]:
    """Read the columns in batches of plain Python values, None where a record lacks a column.

    Raises:
        UsageError: the source is missing, empty, of an unknown format, damaged, or lacks a column. Neither the message
            nor the chain of exceptions quotes its content.
    """
    batches = _read_hub(source, columns) if source.file is None else _read_file(source.file, columns)
    rows = 0
    while True:
        batch, failure = _next_batch(batches, source)
        if failure is not None:
            raise UsageError(failure)
        if batch is None:
            break
        if rows == 0:
            _check_has_columns(source, batch, columns)
        length = max(map(len, batch.values()), default=0)
        rows += length
        yield {name: batch.get(name, [None] * length) for name in columns}
    if rows == 0:
        raise UsageError(f"{source.location} has no rows; it must contain at least one text.")


def check_columns(source: Source, columns: Sequence[str]) -> None:
    """Check the source and its columns by reading the first batch; errors as `read_columns`."""
    next(read_columns(source, columns))


def _next_batch(batches: Iterator[ColumnBatch], source: Source) -> tuple[ColumnBatch | None, str | None]:
    """Return the next batch, or why there is none. A parser's exception holds content, so none leaves this function."""
    try:
        return next(batches, None), None
    except UsageError as error:
        return None, str(error)
    except UnicodeDecodeError:
        return None, f"{source.location} is not valid UTF-8; convert it, for example with `iconv -c -t UTF-8`."
    except MemoryError:
        return None, f"{source.location} does not fit into memory; convert it to jsonl, csv or parquet."
    except Exception as error:
        kind = _detect_format(source.file) if source.file is not None else "a Hugging Face dataset"
        reason = type(error).__name__
        return None, f"{source.location} cannot be read as {kind} ({reason}); check that it is complete and valid."


def _check_has_columns(source: Source, batch: ColumnBatch, columns: Sequence[str]) -> None:
    """Check that the first batch has every column; never list its own: without a header, they are a record."""
    for name in columns:
        if name not in batch:
            raise UsageError(
                f"{source.location} has no column {name!r}; name the right one with --text-column, --client-column or "
                "--label-column (in the configuration: text_column, client_column, label_column)."
            )


def _read_file(path: Path, columns: Sequence[str]) -> Iterator[ColumnBatch]:
    kind = _detect_format(path)
    _check_file(path, kind)
    open_file = gzip.open if path.suffix.lower() == ".gz" else open
    if kind == "parquet":
        with open_file(path, "rb") as raw:
            yield from _read_parquet(raw, columns)  # type: ignore[arg-type]
        return
    with open_file(path, "rt", encoding="utf-8-sig", newline="") as stream:
        records = _read_csv_records(stream) if kind == "csv" else _read_json_records(stream)
        while rows := list(islice(records, _BATCH_ROWS)):
            yield {name: [row.get(name) for row in rows] for name in columns if any(name in row for row in rows)}


def _read_csv_records(stream: IO[str]) -> Iterator[_Record]:
    """Read every cell as a text: "NA" and "007" are neither gaps nor numbers."""
    csv.field_size_limit(2**31 - 1)
    for row in csv.DictReader(stream, strict=True):
        if None in row or None in row.values():
            raise ValueError("a row has more or fewer cells than the header")
        yield row


def _read_json_records(stream: IO[str]) -> Iterator[_Record]:
    """Read one object per line, or one array of objects."""
    start = stream.read(4096)
    stream.seek(0)
    records = (
        json.load(stream) if start.lstrip().startswith("[") else (json.loads(line) for line in stream if line.strip())
    )
    for record in records:
        if not isinstance(record, dict):
            raise TypeError("a record is not an object")
        yield record


def _read_parquet(raw: IO[bytes], columns: Sequence[str]) -> Iterator[ColumnBatch]:
    from pyarrow.parquet import ParquetFile

    table = ParquetFile(raw)
    present = [name for name in columns if name in table.schema_arrow.names]
    for batch in table.iter_batches(_BATCH_ROWS, columns=present):
        yield {name: batch.column(name).to_pylist() for name in present}


def _read_hub(source: Source, columns: Sequence[str]) -> Iterator[ColumnBatch]:
    from datasets import load_dataset
    from datasets.utils.logging import set_verbosity

    set_verbosity(logging.CRITICAL + 1)  # its errors quote the rows that they fail on
    try:
        stream = load_dataset(source.location, source.subset, split=source.split, streaming=True)
    except Exception as error:
        raise UsageError(
            f"{source.location} is neither a local file nor a Hugging Face dataset within reach "
            f"({type(error).__name__}); give the path of a csv, json, jsonl or parquet file (each also .gz), or check "
            "the id, subset, split and the connection."
        ) from None
    for table in stream.with_format("arrow").iter(batch_size=_BATCH_ROWS):
        yield {name: table.column(name).to_pylist() for name in columns if name in table.column_names}


def _detect_format(path: Path) -> str | None:
    suffixes = path.suffixes[-2:]
    ending = suffixes[0] if len(suffixes) == 2 and suffixes[1].lower() == ".gz" else path.suffix
    return _FORMATS.get(ending.lower())


def _check_file(path: Path, kind: str | None) -> None:
    if not path.exists():
        raise UsageError(f"There is no file {path}; check the path.")
    if kind is None:
        raise UsageError(
            f"The extension of {path} names no known format; allowed are csv, json, jsonl and parquet, "
            "each also with .gz."
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give one file.")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path} cannot be read: permission denied.")
    if path.stat().st_size == 0:
        raise UsageError(f"{path} is empty; it must contain at least one text.")
