"""Charts, with matplotlib (extra `plot`); the format by the file's ending, .svg or .png.

Every chart raises what `check_chart` does; whoever works long, or pays, before it draws calls that first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretext.audit.finding import Finding
from pretext.errors import UsageError
from pretext.files import open_atomically
from pretext.fred.recommend import CONFIDENCE, RankedSet
from pretext.statement.accountants import CurvePoint
from privacy import Relation


def draw_distances(lines: Sequence[RankedSet], path: Path) -> None:
    """Distances of public sets with their intervals as horizontal bars, nearest on top."""
    with _open_axes(path, height=1.2 + 0.4 * len(lines)) as axes:
        distances = [max(line.distance, 0.0) for line in lines]
        around = [
            [max(distance - line.low, 0.0) for distance, line in zip(distances, lines, strict=True)],
            [max(line.high - distance, 0.0) for distance, line in zip(distances, lines, strict=True)],
        ]
        axes.barh(range(len(lines)), distances, xerr=around, color="0.75", ecolor="0.2", capsize=3)
        axes.set_yticks(range(len(lines)), [line.public_set for line in lines])
        axes.invert_yaxis()
        axes.set_xlabel(f"squared Frechet distance from the private texts, {CONFIDENCE:.0%} intervals")


def draw_curve(points: Sequence[CurvePoint], path: Path, title: str) -> None:
    """Epsilon against delta, one line for each relation."""
    with _open_axes(path, height=4.2) as axes:
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


def draw_bounds(findings: Sequence[Finding], path: Path) -> None:
    """Lower bounds of an audit's attacks as bars beside the claims; a bar ends at twice the claim."""
    with _open_axes(path, height=1.4 + 0.35 * len(findings)) as axes:
        places = range(len(findings))
        colors = ["tab:red" if finding.certain > finding.claim else "0.7" for finding in findings]
        most = 2 * max(finding.claim for finding in findings)
        bounds = [min(finding.bound, most) for finding in findings]
        axes.barh(places, bounds, color=colors, label="lower bound (95 %)")
        axes.plot([finding.claim for finding in findings], places, "k|", markersize=16, label="claim")
        axes.set_yticks(places, [finding.attack for finding in findings])
        axes.invert_yaxis()
        axes.set_xlabel("epsilon")
        axes.legend(loc="lower right")


@contextmanager
def _open_axes(path: Path, height: float) -> Iterator[Any]:
    """Axes to draw on, which are then saved. Raises UsageError if they cannot be."""
    check_chart(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    yield figure.subplots()
    try:
        with open_atomically(path) as file:
            figure.savefig(file, format=path.suffix[1:].lower())
    except OSError as error:
        raise UsageError(f"The chart {path} cannot be written: {error.strerror}.") from None


def check_chart(path: Path) -> None:
    """Raises UsageError if a chart could not be drawn: the ending, the folder, matplotlib."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"The chart {path} must end in .svg or .png.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"The chart {path} cannot be written: there is no folder {path.absolute().parent}.")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError("A chart needs matplotlib: pip install 'pretext[plot]'.") from None
