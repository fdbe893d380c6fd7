"""What `pretext evaluate` measured, as tables. Its numbers come from private texts without noise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretext.errors import UsageError

_NOTICE_KEYS = (
    "covered_by_guarantee",
    "notice",
    "guarantee_of_the_synthetic_texts",
)  # the page says these in its own words


@dataclass(frozen=True)
class Table:
    """A title, the names of columns if they have any, and rows of cells."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def read_evaluation(path: Path, run: str) -> list[Table]:
    """What stands alone in the file as a first table, then one for every object and every list of objects.

    Raises:
        UsageError: the file is missing, is not what `pretext evaluate` writes, or is about another run than `run`.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}; give the JSON file that `pretext evaluate` wrote.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"The evaluation {path} cannot be read as JSON ({type(error).__name__}).") from None
    if not isinstance(found, dict) or not found:
        raise UsageError(f"The evaluation {path} is not a JSON object; give the file that `pretext evaluate` wrote.")
    if found.get("run", run) != run:
        raise UsageError(f"The evaluation {path} is of run {found['run']}, not of this one, {run}; evaluate this one.")
    found = {name: value for name, value in found.items() if name not in _NOTICE_KEYS and value is not None}
    tables = {name: value for name, value in found.items() if _is_rows(value) or (value and isinstance(value, dict))}
    alone = {name: value for name, value in found.items() if name not in tables}
    return [
        *([_table_of_object("Evaluation", alone)] if alone else []),
        *(_table(name, value) for name, value in tables.items()),
    ]


def _table(title: str, value: Any) -> Table:
    return _table_of_rows(title, value) if isinstance(value, list) else _table_of_object(title, value)


def _table_of_object(title: str, values: dict[str, Any]) -> Table:
    values = {name: value for name, value in values.items() if name not in _NOTICE_KEYS}
    if values and all(isinstance(value, dict) and not _is_estimate(value) for value in values.values()):
        return _table_of_rows(
            title, [{"": name, **value} for name, value in values.items()]
        )  # a row for each of several
    return Table(
        _readable_name(title).capitalize(),
        [],
        [[_readable_name(name), _format_cell(value)] for name, value in values.items()],
    )


def _table_of_rows(title: str, rows: list[dict[str, Any]]) -> Table:
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in _NOTICE_KEYS]
    cells = [[_format_cell(row.get(name)) for name in columns] for row in rows]
    return Table(_readable_name(title).capitalize(), list(map(_readable_name, columns)), cells)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _is_estimate(value: Any) -> bool:
    return isinstance(value, dict) and "mean" in value


def _readable_name(name: str) -> str:
    return name.replace("_", " ")


def _format_cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case {"mean": mean, "interval": [low, high]}:
            return f"{_format_cell(mean)} ({_format_cell(low)} to {_format_cell(high)})".replace(" ", "\u00a0")
        case {"mean": mean}:
            return _format_cell(mean)
        case list():
            return ", ".join(map(_format_cell, value))
        case dict():
            return ", ".join(f"{_readable_name(name)} {_format_cell(each)}" for name, each in value.items())
        case _:
            return str(value)
