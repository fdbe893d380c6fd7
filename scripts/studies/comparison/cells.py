"""Hold the cells of the table, and the CSV file of the finished ones.

One process at a time writes a file: a new row is added by writing the whole file anew, atomically, so that a kill loses
the cell in progress and nothing else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from pretext.errors import UsageError
from pretext.files import write_atomically

START = "untouched"
"""The student before it learned anything; where a gap begins."""
FULL = "non-private"
"""The method without privacy; where a gap ends."""


@dataclass(frozen=True)
class Cell:
    """An entry of the table. `epsilon` is 0 for methods that see no private text, infinity for those without noise."""

    set: str
    method: str
    epsilon: float
    repetition: int


@dataclass(frozen=True)
class Row:
    """A finished cell.

    Attributes:
        seed: of everything that is not noise.
        top1, top3, top5: share of held-out private tokens that are among the student's first 1, 3, 5.
        cross_entropy: nats per token; bits_per_byte likewise, per byte.
        gap_closed: (top1 - top1 of the untouched student) / (top1 without privacy - the same); NaN until both are
            there.
        frechet: distance between embeddings of the texts and of held-out private texts; NaN for methods without texts.
        texts: synthetic texts, or private ones for the method without privacy.
        seconds: wall clock of the whole cell, on the machine that ran it.
        rounds: how often the server waits for clients.
        client_flops, bytes_up, bytes_down: of one client in a round that it takes part in, by `comparison.costs`.
        student: the student's name.
        setting: whatever else two cells of the same name may differ in.
    """

    set: str
    method: str
    epsilon: float
    repetition: int
    seed: int
    top1: float
    top3: float
    top5: float
    cross_entropy: float
    bits_per_byte: float
    gap_closed: float
    frechet: float
    texts: int
    seconds: float
    rounds: int
    client_flops: float
    bytes_up: int
    bytes_down: int
    student: str
    setting: str

    @property
    def cell(self) -> Cell:
        """The cell that the row answers."""
        return Cell(self.set, self.method, self.epsilon, self.repetition)


_KINDS = {"int": int, "float": float, "str": str}


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a file; none if it does not exist. Raises UsageError if it holds something else."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return [Row(**{field.name: _KINDS[str(field.type)](row[field.name]) for field in fields(Row)})
                    for row in csv.DictReader(file)]  # fmt: skip
        except (KeyError, ValueError, TypeError, csv.Error) as error:
            raise UsageError(f"{path} is not a table of this program ({error!r}); give another --csv.") from None


def add_row(path: Path, row: Row) -> list[Row]:
    """Add a row and compute the gaps of all rows anew; return what the file then holds."""
    rows = compute_gaps([*read_rows(path), row])
    path.parent.mkdir(parents=True, exist_ok=True)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, [field.name for field in fields(Row)])
    writer.writeheader()
    writer.writerows(map(asdict, rows))
    write_atomically(path, table.getvalue())
    return rows


def is_done(rows: Sequence[Row], cell: Cell, student: str, setting: str) -> bool:
    """Tell whether the rows hold a cell with the same student and setting."""
    return any((row.cell, row.student, row.setting) == (cell, student, setting) for row in rows)


def compute_gaps(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the share of the gap that each closes; the ends of the gap are means over repetitions."""
    return [replace(row, gap_closed=_gap(row, rows)) for row in rows]


def _gap(row: Row, rows: Sequence[Row]) -> float:
    from pretext.evaluation.metrics import gap_closed

    alike = [peer for peer in rows if (peer.set, peer.student) == (row.set, row.student)]
    start, full = ([peer.top1 for peer in alike if peer.method == end] for end in (START, FULL))
    if not start or not full:
        return float("nan")
    return gap_closed(row.top1, sum(start) / len(start), sum(full) / len(full))
