"""Files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias


def replace_nonfinite(value: Any) -> Any:
    """A value for JSON, which has neither infinity nor NaN: null in their place, wherever they stand in it."""
    if isinstance(value, dict):
        return {name: replace_nonfinite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_ROWS_AT_ONCE = 16_384


Row: TypeAlias = dict[str, str]


@contextmanager
def write_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that appears under its name when it is whole."""
    part = path.with_name(f".{path.name}.tmp")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def json_line(row: Row) -> bytes:
    """A row as a line of JSON; half a character becomes a question mark."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode(errors="replace")


def write_parquet(rows: Iterator[Row], file: IO[bytes]) -> None:
    """Write at least one row as parquet, in pieces; all columns are strings."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    some = list(islice(rows, _ROWS_AT_ONCE))
    schema = pyarrow.schema([(name, pyarrow.string()) for name in some[0]])
    with ParquetWriter(file, schema, compression="zstd") as writer:
        while some:
            writer.write_batch(pyarrow.RecordBatch.from_pylist(some, schema))
            some = list(islice(rows, _ROWS_AT_ONCE))
