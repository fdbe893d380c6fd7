"""Charts, with matplotlib (extra `plot`); the format by the file's ending, .svg or .png."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretext.accounting import Point
from pretext.errors import UsageError
from pretext.fred.procedure import CONFIDENCE, Line
from privacy import Relation


def bar_chart(lines: Sequence[Line], path: Path) -> None:
    """Distances with their intervals as horizontal bars, nearest on top. Raises what `_drawn` does."""
    with _drawn(path, height=1.2 + 0.4 * len(lines)) as axes:
        distances = [max(line.distance, 0.0) for line in lines]
        around = [
            [max(distance - line.low, 0.0) for distance, line in zip(distances, lines, strict=True)],
            [max(line.high - distance, 0.0) for distance, line in zip(distances, lines, strict=True)],
        ]
        axes.barh(range(len(lines)), distances, xerr=around, color="0.75", ecolor="0.2", capsize=3)
        axes.set_yticks(range(len(lines)), [line.candidate for line in lines])
        axes.invert_yaxis()
        axes.set_xlabel(f"squared Frechet distance from the private texts, {CONFIDENCE:.0%} intervals")


def curve_chart(points: Sequence[Point], path: Path, title: str) -> None:
    """Epsilon against delta, one line for each relation. Raises what `_drawn` does."""
    with _drawn(path, height=4.2) as axes:
        for relation, style in zip(Relation, ("-", "--"), strict=True):
            finite = [point for point in points if math.isfinite(point.epsilon(relation))]
            axes.plot(
                [point.epsilon(relation) for point in finite],
                [point.delta for point in finite],
                style,
                color="0.2",
                label=relation.value,
            )
        axes.set_yscale("log")
        axes.set_xlim(left=0)
        axes.set_xlabel("epsilon")
        axes.set_ylabel("delta")
        axes.set_title(title, fontsize="medium")
        axes.grid(color="0.9")
        axes.legend(frameon=False)


@contextmanager
def _drawn(path: Path, height: float) -> Iterator[Any]:
    """Axes to draw on, which are then saved.

    Raises:
        UsageError: matplotlib is missing, the ending is another one, or the file cannot be written.
    """
    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"The chart {path} must end in .svg or .png.")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("A chart needs matplotlib: pip install 'pretext[plot]'.") from None
    figure = Figure(figsize=(7, height), layout="constrained")
    yield figure.subplots()
    try:
        figure.savefig(path)
    except OSError as error:
        raise UsageError(f"The chart {path} cannot be written: {error.strerror}.") from None
