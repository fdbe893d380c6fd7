"""csv and its relatives, as spreadsheets write them: the header alone decides the delimiter."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain

from pretext.formats.faults import MAX_RECORD_CHARACTERS, Fault, Record, check_names
from pretext.formats.lines import Lines, open_text

_DELIMITERS = ",;\t|"
_HEADER_HINT = "; the first line must be the header, with names separated by commas, semicolons, tabs or pipes"


def read_csv(raw: io.BufferedReader, columns: Sequence[str]) -> Iterator[Record]:
    """Read every cell as a text: "NA" and "007" are neither gaps nor numbers."""
    csv.field_size_limit(MAX_RECORD_CHARACTERS)
    with open_text(raw) as stream:
        lines = Lines(stream)
        rows = _split_rows(lines, columns)
        header = [name.strip() for name in _next_row(rows, lines) or []]
        check_names(header, columns, _HEADER_HINT)
        places = {name: header.index(name) for name in columns}
        lines.end_record()
        start = lines.number + 1
        while (row := _next_row(rows, lines)) is not None:
            if not _is_blank(row):
                _check_width(row, header, start)
                lines.end_record()
                yield {name: row[place] for name, place in places.items()}
            start = lines.number + 1


def _split_rows(lines: Lines, columns: Sequence[str]) -> Iterator[list[str]]:
    """Split the lines into rows of cells, by the delimiter that a `sep=` line of Excel or the header tells."""
    header, delimiter = next(lines, ""), None
    if header[:4].lower() == "sep=" and len(header.rstrip("\r\n")) == 5:
        header, delimiter = next(lines, ""), header[4]
    delimiter = delimiter or _find_delimiter(header, columns)
    is_spaced = f"{delimiter} " in header
    return csv.reader(chain([header], lines), delimiter=delimiter, strict=True, skipinitialspace=is_spaced)


def _check_width(row: Sequence[str], header: Sequence[str], line: int) -> None:
    if len(row) < len(header) or not _is_blank(row[len(header) :]):
        raise Fault(
            f"the row on line {line} has {len(row)} cells, the header {len(header)}; put cells that hold the "
            "delimiter or a line end in double quotes"
        )


def _is_blank(row: Sequence[str]) -> bool:
    return not any(cell.strip(" \t\x1a") for cell in row)  # x1a: the end of a file of DOS


def _find_delimiter(header: str, columns: Sequence[str]) -> str:
    """Find the delimiter with which the header has most of the columns; the first of several."""

    def count_columns(delimiter: str) -> int:
        with suppress(csv.Error):
            names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
            return sum(name in names for name in columns)
        return 0

    return max(_DELIMITERS, key=count_columns)


def _next_row(rows: Iterator[list[str]], lines: Lines) -> list[str] | None:
    """Return the next row; None at the end."""
    start = lines.number + 1
    with suppress(csv.Error):
        return next(rows, None)
    raise Fault(
        f"the quotes of the row from line {start} to line {lines.number} are wrong; close every quote, and write a "
        "quote inside of quotes twice"
    )
