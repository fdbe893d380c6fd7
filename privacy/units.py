"""Who is protected (the unit), and against which change of the data (the neighboring relation)."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Relation(enum.Enum):
    """What makes two datasets neighbors. A closed set: every `match` over it ends in `assert_never`."""

    ADD_REMOVE = "add/remove"
    REPLACE_ONE = "replace-one"

    @property
    def words(self) -> str:
        """The relation in a sentence for people who sign."""
        return {
            Relation.ADD_REMOVE: "one unit is present in one dataset and absent from the other",
            Relation.REPLACE_ONE: "one unit's data is exchanged for any other; the number of units is public",
        }[self]


@dataclass(frozen=True)
class Unit:
    """The privacy unit: all texts that share a value of `column`, or each record by itself when there is none."""

    column: str | None = None

    @property
    def name(self) -> str:
        """One word for tables."""
        return "record" if self.column is None else "client"

    @property
    def words(self) -> str:
        """The unit in a sentence for people who sign."""
        if self.column is None:
            return (
                "each record by itself, because no client column was named: a person with many records is NOT "
                "protected as a whole"
            )
        return f"all texts of one client, as told apart by the column {self.column!r}"
