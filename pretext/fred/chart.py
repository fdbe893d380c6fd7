"""Charts, with matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pretext.errors import UsageError
from pretext.fred.procedure import CONFIDENCE, Line


def bar_chart(lines: Sequence[Line], path: Path) -> None:
    """Distances with their intervals as horizontal bars, nearest on top; the format by ending, .svg or .png.

    Raises:
        UsageError: matplotlib is missing, the ending is another one, or the file cannot be written.
    """
    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"The chart {path} must end in .svg or .png.")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("A chart needs matplotlib: pip install 'pretext[plot]'.") from None
    figure = Figure(figsize=(7, 1.2 + 0.4 * len(lines)), layout="constrained")
    axes = figure.subplots()
    distances = [max(line.distance, 0.0) for line in lines]
    around = [
        [max(distance - line.low, 0.0) for distance, line in zip(distances, lines, strict=True)],
        [max(line.high - distance, 0.0) for distance, line in zip(distances, lines, strict=True)],
    ]
    axes.barh(range(len(lines)), distances, xerr=around, color="0.75", ecolor="0.2", capsize=3)
    axes.set_yticks(range(len(lines)), [line.candidate for line in lines])
    axes.invert_yaxis()
    axes.set_xlabel(f"squared Frechet distance from the private texts, {CONFIDENCE:.0%} intervals")
    try:
        figure.savefig(path)
    except OSError as error:
        raise UsageError(f"The chart {path} cannot be written: {error.strerror}.") from None
