"""A chart of an audit, with matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pretext.audit.finding import Finding
from pretext.errors import UsageError


def check_chart(path: Path) -> None:
    """Raises UsageError if the chart could not be drawn: before an audit, not after it."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"The chart {path} must end in .svg or .png.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"The chart {path} cannot be written: there is no folder {path.absolute().parent}.")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError("A chart needs matplotlib: pip install 'pretext[plot]'.") from None


def bar_chart(findings: Sequence[Finding], path: Path) -> None:
    """Lower bounds as bars beside the claims; the format by ending, .svg or .png.

    Raises:
        UsageError: matplotlib is missing, the ending is another one, or the file cannot be written.
    """
    check_chart(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.4 + 0.35 * len(findings)), layout="constrained")
    axes = figure.subplots()
    places = range(len(findings))
    colours = ["tab:red" if finding.certain > finding.claim else "0.7" for finding in findings]
    most = max(finding.claim for finding in findings)  # bars end at twice the claim
    axes.barh(places, [min(finding.bound, 2 * most) for finding in findings], color=colours, label="lower bound (95 %)")
    axes.plot([finding.claim for finding in findings], places, "k|", markersize=16, label="claim")
    axes.set_yticks(places, [finding.attack for finding in findings])
    axes.invert_yaxis()
    axes.set_xlabel("epsilon")
    axes.legend(loc="lower right")
    try:
        figure.savefig(path)
    except OSError as error:
        raise UsageError(f"The chart {path} cannot be written: {error.strerror}.") from None
