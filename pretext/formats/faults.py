"""What is wrong with a file, in our own words: parsers quote the content that they fail on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

Record: TypeAlias = dict[str, Any]

MAX_RECORD_CHARACTERS: Final = 64 * 2**20
"""The longest record: no file, however it is compressed, fills the memory with one."""


class Fault(Exception):
    """Where a file cannot be read (a line, a record or a row), and why. Quotes nothing."""


def make_length_fault(place: str) -> Fault:
    """Say that a record is longer than the longest."""
    return Fault(f"{place} holds a record of more than {MAX_RECORD_CHARACTERS // 2**20} MiB, the most that is read")


def check_names(names: Sequence[str], columns: Sequence[str], hint: str = "") -> None:
    """Check that a header or a schema has every column once. Never list it: without a header it is a record."""
    for name in columns:
        if name not in names:
            raise Fault(explain_missing_column(name) + hint)
        if names.count(name) > 1:
            raise Fault(f"the column {name!r} is there twice; rename or remove one")


def find_root(name: str, names: Collection[str]) -> str:
    """Find the column that holds a column: `user` holds `user.id` where there is no column of that very name."""
    root = name.partition(".")[0]
    return root if name not in names and root in names else name


def reach_cell(record: Mapping[str, Any], name: str) -> Any:
    """Return a cell, None if the record lacks it; `user.id` also reaches into an object `user`."""
    if name in record or "." not in name:
        return record.get(name)
    root, _, rest = name.partition(".")
    inner = record.get(root)
    return reach_cell(inner, rest) if isinstance(inner, Mapping) else None


def explain_missing_column(name: str) -> str:
    """Say that a column is missing, and how to name the right one."""
    return (
        f"there is no column {name!r}; name the right one with --text-column, --client-column or --label-column (in "
        "the configuration: text_column, client_column, label_column)"
    )
