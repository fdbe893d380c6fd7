"""Draw how much of the gap each method closes, against epsilon: a panel for each set, from the rows of the CSV file."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comparison.cells import FULL, START, Row


def draw_gaps(rows: Sequence[Row], path: Path) -> None:
    """Draw means over repetitions; a method without an epsilon, or with an infinite one, is a horizontal line.

    Args:
        rows: of any sets.
        path: of the chart; its ending decides the format.
    """
    from matplotlib.figure import Figure

    sets = sorted({row.set for row in rows})
    figure = Figure(figsize=(4.2 * len(sets), 3.8), layout="constrained")
    panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    methods = sorted({row.method for row in rows} - {START, FULL})
    colors = {method: f"C{number % 10}" for number, method in enumerate(methods)}
    for panel, name in zip(panels, sets, strict=True):
        _draw_set(panel, name, _mean_gaps([row for row in rows if row.set == name]), colors)
    panels[0].set_ylabel("gap closed, %")
    handles = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _mean_gaps(rows: Sequence[Row]) -> dict[str, dict[float, float]]:
    """Return the mean gap closed in percent by method and epsilon, without those that have no figure."""
    gaps: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.method not in (START, FULL) and not math.isnan(row.gap_closed):
            gaps[row.method][row.epsilon].append(100 * row.gap_closed)
    return {
        method: {epsilon: sum(values) / len(values) for epsilon, values in sorted(by_epsilon.items())}
        for method, by_epsilon in gaps.items()
    }


def _draw_set(panel: Any, name: str, gaps: dict[str, dict[float, float]], colors: dict[str, str]) -> None:
    panel.set_title(name)
    panel.set_xlabel("epsilon")
    panel.set_xscale("log")
    ticks: set[float] = set()
    for method, by_epsilon in sorted(gaps.items()):
        color = colors[method]
        finite = {epsilon: gap for epsilon, gap in by_epsilon.items() if 0 < epsilon < math.inf}
        ticks |= finite.keys()
        if finite:
            panel.plot(list(finite), list(finite.values()), "o-", color=color, label=method)
        for epsilon in by_epsilon.keys() - finite.keys():
            style = "--" if epsilon == 0 else ":"
            panel.axhline(by_epsilon[epsilon], color=color, linestyle=style, label=f"{method} (epsilon {epsilon:g})")
    panel.set_xticks(sorted(ticks), [f"{epsilon:g}" for epsilon in sorted(ticks)])
    panel.minorticks_off()
