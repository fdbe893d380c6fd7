"""Rows from memory: of the containers that users of pandas, polars, Arrow and Hugging Face hold.

A value is cleaned by itself, whatever the others are; no message quotes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pretext.errors import UsageError
from pretext.formats.lines import decode_cell

_GAPS = ("NAType", "NaTType")  # of pandas, which need not be installed


def collect_rows(data: Any) -> list[Any]:
    """Collect the rows of a container: mappings by column, or single values, which are the texts.

    Args:
        data: a DataFrame or Series of pandas or polars, an Arrow table or array, a Hugging Face dataset, a mapping of
            columns of equal length, a structured array, or any iterable of texts, mappings or named tuples.

    Raises:
        UsageError: it is anything else, or has the same column twice. The message names the type and quotes nothing.
    """
    return [_clean_row(row) for row in _iterate(data)]


def _iterate(data: Any) -> Iterable[Any]:
    """Return the rows of a container as it gives them."""
    if type(data).__module__.partition(".")[0] == "pandas" and hasattr(data, "ndim"):
        if data.ndim == 1:
            return data.tolist()  # type: ignore[no-any-return]
        if not data.columns.is_unique:
            raise UsageError("The given DataFrame has a column twice; rename or remove one.")
        return data.to_dict("records")  # type: ignore[no-any-return]
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        return _iterate_arrow(data)
    if isinstance(data, Mapping):
        return _zip_columns(data)
    is_single = isinstance(data, str | bytes | bytearray) or getattr(data, "ndim", 1) == 0
    if is_single or not isinstance(data, Iterable):
        raise _make_type_error(data)
    return data


def _iterate_arrow(data: Any) -> list[Any]:
    import pyarrow

    try:
        return pyarrow.chunked_array(data).to_pylist()  # type: ignore[no-any-return]
    except (ValueError, TypeError) as error:
        reason = type(error).__name__  # of columns with the same name, and of types that Python does not know
    raise UsageError(f"The given {type(data).__name__} cannot be read ({reason}); check that no column is there twice.")


def _zip_columns(data: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Make rows of a mapping of columns."""
    if type(data).__name__.endswith("DatasetDict"):
        raise UsageError("The given dataset has several splits; give one of them, for example data['train'].")
    columns = [_list_column(column) for column in data.values()]
    if not columns or None in columns or len({len(column or ()) for column in columns}) > 1:
        raise UsageError("The given mapping must hold columns, each a list of the same length, or give a list of rows.")
    return [dict(zip(data, values, strict=True)) for values in zip(*columns, strict=True)]


def _list_column(column: Any) -> list[Any] | None:
    """Return a column as a list, or None if it is no column."""
    if hasattr(column, "columns") or getattr(column, "ndim", 1) != 1:  # a table
        return None
    if hasattr(column, "tolist"):
        column = column.tolist()
    elif hasattr(column, "__arrow_c_array__") or hasattr(column, "__arrow_c_stream__"):
        column = _iterate_arrow(column)
    is_column = isinstance(column, Sequence) and not isinstance(column, str | bytes)
    return list(column) if is_column else None


def _clean_row(row: Any) -> Any:
    """Return a row as a mapping of cleaned values, or as one cleaned value, which is a text."""
    names = getattr(getattr(row, "dtype", None), "names", None)
    if names:  # of a structured array
        row = {name: row[name] for name in names}
    elif hasattr(row, "_asdict"):  # a named tuple
        row = row._asdict()
    if isinstance(row, Mapping):
        return {name: _clean_value(value) for name, value in row.items()}
    value = _clean_value(row)
    if isinstance(value, list | tuple):
        raise UsageError(
            f"The given rows are of the type {type(row).__name__}, without names of columns; give mappings, for "
            "example {'text': ..., 'client_id': ...}."
        )
    return value


def _clean_value(value: Any) -> Any:
    """Return a plain Python value; None for a gap."""
    is_moment = getattr(getattr(value, "dtype", None), "kind", "") == "M"  # a list of it may hold numbers
    if hasattr(value, "tolist") and not is_moment:  # of numpy and torch
        value = value.tolist()
    if isinstance(value, bytes):
        return decode_cell(value)
    return None if type(value).__name__ in _GAPS else value


def _make_type_error(data: Any) -> UsageError:
    return UsageError(
        f"Texts cannot be taken from a value of the type {type(data).__name__}; give a path, a list of texts or of "
        "mappings, a DataFrame, an Arrow table, one split of a Hugging Face dataset, or a mapping of columns."
    )
