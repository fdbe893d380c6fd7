"""Charts, with matplotlib (extra `plot`); the file's ending, .svg or .png, decides the format.

Every chart raises what `check_chart` raises. A command that works long, or pays, before it draws calls that first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pretext.audit.finding import Finding
    from pretext.statement.accountants import CurvePoint


def _check_option(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a chart that could not be drawn before the work, not after it."""
    if path is not None:
        check_chart(path)
    return path


chart_option = click.option(
    "--chart",
    type=click.Path(path_type=Path),
    callback=_check_option,
    help="Draw a chart too: .svg or .png (extra `plot`).",
)


def draw_distances(rows: Sequence[tuple[str, float, float, float]], path: Path, confidence: float) -> None:
    """Draw distances of public sets with their intervals as horizontal bars.

    Args:
        rows: name, squared distance and the two ends of its interval, nearest first.
        path: the file.
        confidence: of the intervals.
    """
    names, distances, lows, highs = zip(*rows, strict=True)
    lengths = [max(distance, 0.0) for distance in distances]
    errors = [
        [max(length - low, 0.0) for length, low in zip(lengths, lows, strict=True)],
        [max(high - length, 0.0) for length, high in zip(lengths, highs, strict=True)],
    ]
    with _open_axes(path, height=1.2 + 0.4 * len(rows)) as axes:
        axes.barh(range(len(rows)), lengths, xerr=errors, color="0.75", ecolor="0.2", capsize=3)
        axes.set_yticks(range(len(rows)), names)
        axes.invert_yaxis()
        axes.set_xlabel(f"squared Frechet distance from the private texts, {confidence:.0%} intervals")


def draw_curve(points: Sequence[CurvePoint], path: Path, title: str) -> None:
    """Draw epsilon against delta, one line for each relation."""
    from privacy import Relation

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
    """Draw the lower bounds of an audit's attacks as bars beside the claims; a bar ends at twice the claim."""
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
    """Yield axes to draw on, and save them afterwards. Raises UsageError if the file cannot be written."""
    check_chart(path)
    from matplotlib.figure import Figure

    from pretext.errors import UsageError
    from pretext.files import open_atomically

    figure = Figure(figsize=(8, height), layout="constrained")
    yield figure.subplots()
    try:
        with open_atomically(path) as file:
            figure.savefig(file, format=path.suffix[1:].lower())
    except OSError as error:
        raise UsageError(f"The chart {path} cannot be written: {error.strerror}.") from None


def check_chart(path: Path) -> None:
    """Raise UsageError if a chart could not be drawn: its ending, its folder, or a missing matplotlib."""
    from pretext.errors import UsageError

    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"The chart {path} must end in .svg or .png.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"The chart {path} cannot be written: there is no folder {path.absolute().parent}.")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError("A chart needs matplotlib: pip install 'pretext[plot]'.") from None
