"""What `pretext evaluate` measured, as tables. Its numbers come from private texts without noise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretext.errors import UsageError


@dataclass(frozen=True)
class Table:
    """A title, the names of columns, and rows of cells."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def read_evaluation(path: Path) -> list[Table]:
    """Every list of objects and every object in the file as a table, all that is left as a first one.

    Raises:
        UsageError: the file is missing or is not what `pretext evaluate` writes.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}; give the JSON file that `pretext evaluate` wrote.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"The evaluation {path} cannot be read as JSON ({type(error).__name__}).") from None
    if not isinstance(found, dict) or not found:
        raise UsageError(f"The evaluation {path} is not a JSON object; give the file that `pretext evaluate` wrote.")
    plain = {name: value for name, value in found.items() if not _is_rows(value) and not isinstance(value, dict)}
    nested = {name: value for name, value in found.items() if name not in plain}
    tables = [_of_object("Evaluation", plain)] if plain else []
    return tables + [
        _of_rows(name, value) if isinstance(value, list) else _of_object(name, value)
        for name, value in nested.items()
        if value
    ]


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _of_rows(title: str, rows: list[dict[str, Any]]) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return Table(title, columns, [[_cell(row.get(name)) for name in columns] for row in rows])


def _of_object(title: str, values: dict[str, Any]) -> Table:
    if all(isinstance(value, dict) for value in values.values()):  # one row for each of several things
        return _of_rows(title, [{"": name, **value} for name, value in values.items()])
    return Table(title, ["", "value"], [[name, _cell(value)] for name, value in values.items()])


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case str() | int():
            return str(value)
        case _:
            return json.dumps(value, ensure_ascii=False)
