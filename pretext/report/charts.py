"""Numbers to lines and dots: the geometry of the report's charts, which the templates draw as inline SVG.

Why not matplotlib: its SVG carries fixed colors and sizes, so it could not follow the reader's dark mode, be read on a
phone and be printed from one file; and the report would lack its charts wherever the extra is not installed. There are
two kinds of charts, and a template of ten lines draws each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pretext.report.facts import Round

WIDTH, HEIGHT, LEFT = 320, 190, 44
SIDE = 230
_MAX_POINTS, _MAX_DOTS, _MARGIN = 300, 400, 8


@dataclass(frozen=True)
class VotesPanel:
    """One round's votes, most first; all lengths in pixels from the top left of a WIDTH x HEIGHT picture.

    Attributes:
        votes, alone: points of the released votes, and of noise alone.
        zero, threshold, high, low: heights of no votes, of the threshold, and of one sigma to either side.
        ticks: heights with their numbers of votes.
    """

    round: Round
    votes: str
    alone: str
    zero: float
    threshold: float
    high: float
    low: float
    ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class MovementPanel:
    """One round's candidates as dots in a SIDE x SIDE picture, the surviving ones apart; SVG paths of points."""

    round: int
    others: str
    survivors: str


@dataclass(frozen=True)
class Movement:
    """How the population moved.

    Attributes:
        all_dots: all dots of all rounds.
        explained: share of the candidates' variance that the two axes show.
        steps: (round, distance of its mean from the round before it, mean distance of its candidates from their mean),
            in the full space, where unit vectors lie.
    """

    panels: list[MovementPanel]
    all_dots: str
    explained: float
    steps: list[tuple[int, float | None, float]]


def votes_panels(rounds: Sequence[Round]) -> list[VotesPanel]:
    """Draw one panel a round, all on the same scale."""
    if not rounds:
        return []
    top = max(max(r.votes[0], 2 * r.sigma, r.threshold) for r in rounds)
    bottom = min(min(r.votes[-1], -2 * r.sigma) for r in rounds)
    return [_votes_panel(voting_round, float(top), float(bottom)) for voting_round in rounds]


def _votes_panel(voting_round: Round, top: float, bottom: float) -> VotesPanel:
    def height(votes: float) -> float:
        return round(_MARGIN + (top - votes) / (top - bottom) * (HEIGHT - 2 * _MARGIN), 1)

    candidates = len(voting_round.votes)
    ranks = np.unique(np.linspace(0, candidates - 1, min(candidates, _MAX_POINTS)).round().astype(int)).tolist()
    across = [round(LEFT + (WIDTH - LEFT - _MARGIN) * (rank + 0.5) / candidates, 1) for rank in ranks]
    noise = NormalDist(0, voting_round.sigma)
    alone = [noise.inv_cdf(1 - (rank + 0.5) / candidates) for rank in ranks]
    return VotesPanel(
        voting_round,
        " ".join(f"{x},{height(voting_round.votes[rank])}" for x, rank in zip(across, ranks, strict=True)),
        " ".join(f"{x},{height(votes)}" for x, votes in zip(across, alone, strict=True)),
        height(0),
        height(voting_round.threshold),
        height(voting_round.sigma),
        height(-voting_round.sigma),
        [(height(votes), f"{votes:g}") for votes in ticks(bottom, top)],
    )


def ticks(low: float, high: float, limit: int = 6) -> list[float]:
    """Choose round numbers from `low` to `high`, about `limit` at most."""
    step = 10.0 ** np.floor(np.log10((high - low) / limit))
    step *= next(factor for factor in (1, 2, 5, 10, 20) if (high - low) / (step * factor) <= limit)
    return [float(step * i) for i in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def trace_movement(rounds: Sequence[Round]) -> Movement | None:
    """Draw the candidates of all rounds on their two principal axes (PCA); None without positions."""
    placed = [(r, r.points) for r in rounds if r.points is not None and len(r.points) > 1]
    if not placed:
        return None
    points = np.concatenate([points for _, points in placed])
    centered = points - points.mean(axis=0)
    variances, axes = np.linalg.eigh(centered.T @ centered)
    flat = centered @ axes[:, :-3:-1]
    scale = (SIDE / 2 - _MARGIN) / max(float(np.abs(flat).max()), 1e-9)
    pixels = np.split((SIDE / 2 + scale * flat).round(1), np.cumsum([len(points) for _, points in placed])[:-1])
    panels = []
    for (voting_round, _), place in zip(placed, pixels, strict=True):
        survives = np.isin(np.arange(len(place)), voting_round.survivors)
        panels.append(MovementPanel(voting_round.number, _dots_path(place[~survives]), _dots_path(place[survives])))
    explained = float(variances[-2:].sum() / max(variances.sum(), 1e-12))
    all_dots = "".join(panel.others + panel.survivors for panel in panels)
    return Movement(panels, all_dots, explained, _movement_steps(placed))


def _dots_path(pixels: NDArray[np.float32]) -> str:
    """Write a path that draws a round dot at each point, at most _MAX_DOTS of them."""
    shown = pixels[np.unique(np.linspace(0, len(pixels) - 1, min(len(pixels), _MAX_DOTS)).astype(int))]
    return "".join(f"M{x:g} {y:g}h0" for x, y in shown.tolist())


def _movement_steps(placed: Sequence[tuple[Round, NDArray[np.float32]]]) -> list[tuple[int, float | None, float]]:
    means = [points.mean(axis=0) for _, points in placed]
    moves = [None, *(float(np.linalg.norm(after - before)) for before, after in pairwise(means))]
    spreads = [
        float(np.linalg.norm(points - mean, axis=1).mean()) for (_, points), mean in zip(placed, means, strict=True)
    ]
    numbers = [voting_round.number for voting_round, _ in placed]
    return list(zip(numbers, moves, spreads, strict=True))
