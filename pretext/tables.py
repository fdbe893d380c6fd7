"""Columns of a file or of a Hugging Face data set, streamed in batches through `datasets`.

Streaming leaves no copy in the cache of `datasets`, which matters for private files. Parsers quote what they fail on,
so their messages are never passed on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretext.errors import UsageError

_FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
_BATCH_ROWS = 4096


@dataclass(frozen=True)
class Source:
    """A file by path, or a Hugging Face data set by id with subset and split."""

    location: str
    subset: str | None = None
    split: str = "train"

    @property
    def file(self) -> Path | None:
        """The path if this names a file (by its ending or by existing), else None."""
        path = Path(self.location).expanduser()
        return path if _format(path) is not None or path.exists() else None

    @property
    def identity(self) -> str:
        """What the ledger calls this source: the resolved path, or the data set's id, subset and split."""
        if self.file is not None:
            return str(self.file.resolve())
        return ":".join(["hf", self.location, self.subset or "default", self.split])

    @property
    def default_name(self) -> str:
        """A name for people: the file's name without its endings, or the last part of the id."""
        return Path(self.location).name.split(".")[0] or "data"


def read_columns(source: Source, columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Batches of the named columns, as plain Python values.

    Raises:
        UsageError: the source is missing, empty, of an unknown format, damaged, or lacks a column; no cell is quoted.
    """
    stream = _open(source)
    rows = 0
    try:
        for table in stream.with_format("arrow").iter(batch_size=_BATCH_ROWS):
            missing = [name for name in columns if name not in table.column_names]
            if missing:
                raise UsageError(_missing(source, missing[0], table.column_names))
            rows += table.num_rows
            yield {name: table.column(name).to_pylist() for name in columns}
    except (UsageError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(_unreadable(source, error)) from None
    if rows == 0:
        raise UsageError(f"{source.location} holds no rows; it must hold at least one text.")


def check_columns(source: Source, columns: Sequence[str]) -> None:
    """Read the first rows only. Raises UsageError as `read_columns` does."""
    next(iter(read_columns(source, columns)))


def _open(source: Source) -> Any:
    from datasets import load_dataset
    from datasets.utils.logging import set_verbosity

    set_verbosity(logging.CRITICAL + 1)  # its errors quote the rows they fail on
    path = source.file
    if path is None:
        try:
            return load_dataset(source.location, source.subset, split=source.split, streaming=True)
        except Exception as error:
            raise UsageError(
                f"{source.location} is neither a file here nor a Hugging Face data set that can be reached "
                f"({type(error).__name__}); "
                "give the path of a csv, json, jsonl or parquet file (each also .gz), or check the id, subset, split "
                "and the connection."
            ) from None
    kind = _format(path)
    _check_file(path, kind)
    assert kind is not None
    # Every csv cell is read as text: "NA" and "007" are texts, not gaps or numbers.
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False} if kind == "csv" else {}
    try:
        return load_dataset(kind, data_files=os.fspath(path.resolve()), split="train", streaming=True, **options)
    except Exception as error:
        raise UsageError(_unreadable(source, error)) from None


def _format(path: Path) -> str | None:
    suffixes = path.suffixes[-2:]
    ending = suffixes[0] if len(suffixes) == 2 and suffixes[1] == ".gz" else path.suffix
    return _FORMATS.get(ending.lower())


def _check_file(path: Path, kind: str | None) -> None:
    if not path.exists():
        raise UsageError(f"There is no file {path}; check the path.")
    if kind is None:
        raise UsageError(
            f"The format of {path} is not known by its ending; allowed are csv, json, jsonl and parquet, each also "
            "with .gz."
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give one file.")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path} cannot be read: permission denied.")
    if path.stat().st_size == 0:
        raise UsageError(f"{path} is empty; it must hold at least one text.")


def _missing(source: Source, column: str, present: Sequence[str]) -> str:
    return (
        f"{source.location} has no column {column!r}; its columns are {', '.join(map(repr, present))}. "
        "Name the right one with --text-column, --client-column or --label-column."
    )


def _unreadable(source: Source, error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UnicodeDecodeError):
            return f"{source.location} is not valid UTF-8; convert it, for example with `iconv -c -t UTF-8`."
        cause = cause.__cause__ or cause.__context__
    kind = source.location.removesuffix(".gz").rpartition(".")[2]
    return (
        f"{source.location} cannot be read as {kind} ({type(error).__name__}); check that the file is complete and "
        "of that format."
    )
