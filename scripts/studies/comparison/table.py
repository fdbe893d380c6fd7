"""Format the table for people: means and intervals over repetitions, from the rows of the CSV file alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from comparison.bench import ALL_METHODS
from comparison.cells import Row
from comparison.costs import PAPER_COSTS, ClientCost
from pretext.evaluation.evaluate import confidence_interval as interval_of

_HEAD: Final = (
    f"{'method':<18} {'epsilon':>7} {'runs':>4} {'top-1 %':>15} {'cross entropy':>15} {'bits/byte':>9} "
    f"{'gap closed %':>15} {'Frechet':>8} {'seconds':>7}"
)
_COST_HEAD: Final = f"{'method':<26} {'rounds':>6} {'MFLOPs/round':>13} {'up/round':>10} {'down/round':>10}"


def format_table(rows: Sequence[Row]) -> str:
    """Return the tables of quality and of cost; notes below explain each setting."""
    settings = list(dict.fromkeys(f"{row.setting}; student {row.student}" for row in _sort_rows(rows)))
    lines = []
    for name, own in groupby(_sort_rows(rows), key=lambda row: row.set):
        group = list(own)
        lines += [name, _HEAD, *_quality_lines(group, settings), ""]
    notes = [f"  [{number}] {setting}" for number, setting in enumerate(settings, start=1)]
    return "\n".join([*lines, *format_costs(rows), "", _EXPLANATION, *notes])


_EXPLANATION: Final = (
    "Mean over repetitions, +- half of the 95 % interval (Student's t) where there are several. Gap closed: (top-1 - "
    "top-1 of the untouched student) / (top-1 without privacy - the same). Privacy unit client, relation add/remove."
)


def format_costs(rows: Sequence[Row]) -> list[str]:
    """Return what a client computes and sends in a round, in these settings and at the paper's sizes."""
    lines = ["What one client does in a round (by formula, comparison/costs.py)", _COST_HEAD]
    seen = dict.fromkeys(
        (row.method, row.rounds, row.client_flops, row.bytes_up, row.bytes_down)
        for row in _sort_rows(rows)
        if row.rounds
    )
    lines += [_cost_line(method, rounds, ClientCost(flops, up, down)) for method, rounds, flops, up, down in seen]
    lines += [_cost_line(name, rounds, cost) for name, (rounds, cost) in PAPER_COSTS.items()]
    (few, ours), (many, theirs) = PAPER_COSTS.values()
    own_bytes, their_bytes = ours.bytes_up + ours.bytes_down, theirs.bytes_up + theirs.bytes_down
    return [
        *lines,
        f"At the paper's sizes: {many / few:.1f} times fewer rounds, {theirs.flops / ours.flops:.1f} times less "
        f"computation and {their_bytes / own_bytes:.0f} times less communication per client and round.",
    ]


def _quality_lines(rows: Sequence[Row], settings: list[str]) -> Iterable[str]:
    for (method, epsilon, _, _), own in groupby(rows, key=_row_key):
        group = list(own)
        note = settings.index(f"{group[0].setting}; student {group[0].student}") + 1
        failed = sum(math.isnan(row.top1) for row in group)
        columns = [
            f"{f'{method} [{note}]':<18} {epsilon:>7g} {len(group):>4}",
            f"{_format_mean([100 * row.top1 for row in group], 2):>15}",
            f"{_format_mean([row.cross_entropy for row in group], 3):>15}",
            f"{_format_mean([row.bits_per_byte for row in group], 3, False):>9}",
            f"{_format_mean([100 * row.gap_closed for row in group], 1):>15}",
            f"{_format_mean([row.frechet for row in group], 3, False):>8}",
            f"{_format_mean([row.seconds for row in group], 0, False):>7}",
        ]
        yield " ".join(columns) + (f"  {failed} without any text" if failed else "")


def _cost_line(name: str, rounds: int, cost: ClientCost) -> str:
    up, down = _format_size(cost.bytes_up), _format_size(cost.bytes_down)
    return f"{name:<26} {rounds:>6} {cost.flops / 1e6:>13,.0f} {up:>10} {down:>10}"


def _format_size(count: int) -> str:
    return f"{count / 1e3:,.1f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"


def _format_mean(values: Sequence[float], digits: int, interval: bool = True) -> str:
    """Format the mean of the values that are numbers, with half the width of its interval where there are several."""
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return "-"
    mean = sum(numbers) / len(numbers)
    if len(numbers) == 1 or not interval:
        return f"{mean:.{digits}f}"
    low, high = interval_of(numbers, 0.95) or (mean, mean)
    return f"{mean:.{digits}f} +- {(high - low) / 2:.{digits}f}"


def _row_key(row: Row) -> tuple[str, float, str, str]:
    return row.method, row.epsilon, row.student, row.setting


def _sort_rows(rows: Sequence[Row]) -> list[Row]:
    """Sort by set, method (in the order of `ALL_METHODS`) and epsilon."""
    place = {method: number for number, method in enumerate(ALL_METHODS)}
    return sorted(
        rows, key=lambda row: (row.set, row.student, place.get(row.method, len(ALL_METHODS)), row.epsilon, row.setting)
    )
