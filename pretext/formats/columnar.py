"""Parquet and Arrow: columns of the types that the file's schema fixes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from pretext.formats.faults import MAX_RECORD_CHARACTERS, Fault, Record, check_names, find_root, make_length_fault
from pretext.formats.lines import decode_cell

_BATCH_ROWS = 64  # few: a dictionary holds a long cell once, and the rows of a batch each
_BATCH_BYTES = MAX_RECORD_CHARACTERS


def read_parquet(raw: io.BufferedReader, columns: Sequence[str]) -> Iterator[Record]:
    """Read the rows of a parquet file."""
    from pyarrow.parquet import ParquetFile

    if not raw.seekable():
        raise Fault("the rows are compressed once more; unpack the file first")
    table = ParquetFile(raw)
    columns = _find_roots(columns, table.schema_arrow.names)
    for number in range(table.metadata.num_row_groups):
        group = table.metadata.row_group(number)
        rows = min(_BATCH_ROWS, _BATCH_BYTES // _mean_length(group, columns))
        if rows == 0:
            raise make_length_fault("a group of rows")
        batches = table.iter_batches(rows, row_groups=[number], columns=list(columns))
        yield from _read_batches(batches, columns)


def read_arrow(raw: io.BufferedReader, columns: Sequence[str]) -> Iterator[Record]:
    """Read the rows of an Arrow file (feather is one) or stream."""
    from pyarrow import ipc

    if raw.peek(6).startswith(b"ARROW1"):
        file = ipc.open_file(raw)
        columns = _find_roots(columns, file.schema.names)
        batches = map(file.get_batch, range(file.num_record_batches))
    else:
        batches = ipc.open_stream(raw)
        columns = _find_roots(columns, batches.schema.names)
    yield from _read_batches(map(partial(_validate, columns), batches), columns)


def _validate(columns: Sequence[str], batch: Any) -> Any:
    """Return a batch whose offsets lie within it: those of a damaged file may point anywhere in memory."""
    import pyarrow

    bytes_of = {pyarrow.string(): pyarrow.binary(), pyarrow.large_string(): pyarrow.large_binary()}
    for column in map(batch.column, columns):
        # As bytes: a single text that is not UTF-8 is no damage.
        column.view(bytes_of.get(column.type, column.type)).validate(full=True)
    return batch


def _find_roots(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Find the columns that hold the wanted ones, each once, and check that they are there."""
    roots = list(dict.fromkeys(find_root(name, names) for name in columns))
    check_names(names, roots)
    return roots


def _mean_length(group: Any, columns: Sequence[str]) -> int:
    """Return the mean bytes of a row, at least 1, as the file states them before anything is unpacked."""
    chunks = [group.column(number) for number in range(group.num_columns)]
    size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)
    return max(1, int(size // max(group.num_rows, 1)))


def _read_batches(batches: Iterable[Any], columns: Sequence[str]) -> Iterator[Record]:
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            part = batch.slice(start, _BATCH_ROWS)
            cells = [_read_cells(part.column(name)) for name in columns]
            yield from (dict(zip(columns, values, strict=True)) for values in zip(*cells, strict=True))


def _read_cells(column: Any) -> list[Any]:
    try:
        cells = column.to_pylist()
    except UnicodeDecodeError:  # of one cell, which is no text
        import pyarrow

        cells = column.cast(pyarrow.large_binary()).to_pylist()
    if any(isinstance(cell, (str, bytes)) and len(cell) > MAX_RECORD_CHARACTERS for cell in cells):
        raise make_length_fault("a row")
    return [decode_cell(cell) if isinstance(cell, bytes) else cell for cell in cells]
