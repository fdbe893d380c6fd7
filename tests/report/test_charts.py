"""The charts' geometry."""

from __future__ import annotations

import numpy as np
import pytest

from pretext.report import charts
from pretext.report.facts import Round


def _round(number: int, points: np.ndarray | None = None, votes: np.ndarray | None = None) -> Round:
    votes = np.array([30.0, 5.0, -4.0]) if votes is None else votes
    return Round(number, votes, 2.0, 4.0, [0], [], {}, points)


def test_heights_follow_votes() -> None:
    panels = charts.votes_panels([_round(0), _round(1, votes=np.array([12.0, 0.0, -1.0]))])
    heights = [[float(point.split(",")[1]) for point in panel.votes.split()] for panel in panels]
    assert heights[0] == sorted(heights[0])  # most votes on top
    assert heights[1][1] == pytest.approx(panels[1].zero)
    assert panels[0].zero == panels[1].zero  # one scale for all
    assert panels[0].high < panels[0].zero < panels[0].low
    assert panels[0].zero - panels[0].threshold == pytest.approx(2 * (panels[0].zero - panels[0].high), abs=0.2)
    assert all(0 <= height <= charts.HEIGHT for row in heights for height in row)


def test_many_votes_become_few_points() -> None:
    votes = np.sort(np.random.default_rng(0).normal(size=5000))[::-1]
    assert len(charts.votes_panels([_round(0, votes=votes)])[0].votes.split()) == 300
    assert charts.votes_panels([]) == []


@pytest.mark.parametrize(("low", "high"), [(-33, 72), (-4, 1200), (-0.02, 0.5), (-1e-3, 1e-3)])
def test_ticks_are_few_and_round(low: float, high: float) -> None:
    ticks = charts.ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert low <= ticks[0] < ticks[-1] <= high
    assert any(abs(tick) < 1e-12 for tick in ticks)


def test_the_picture_shows_the_two_widest_directions() -> None:
    rng = np.random.default_rng(1)
    wide = rng.normal(size=(60, 8)) * np.array([0.1, 5, 0.1, 0.1, 3, 0.1, 0.1, 0.1])
    movement = charts.trace_movement(
        [_round(0, wide.astype(np.float32)), _round(1), _round(2, (wide + 1).astype(np.float32))]
    )
    assert movement is not None
    assert [panel.round for panel in movement.panels] == [0, 2]  # round 1 has no positions
    assert 0.95 < movement.explained < 1  # the mean movement, too
    assert movement.panels[0].survivors.count("M") == 1
    assert movement.panels[0].others.count("M") == 59
    assert movement.steps[0][1] is None
    assert movement.steps[1][1] == pytest.approx(np.sqrt(8), rel=1e-3)
    assert charts.trace_movement([_round(0)]) is None


def test_equal_candidates_are_no_error() -> None:
    movement = charts.trace_movement([_round(0, np.ones((5, 4), np.float32))])
    assert movement is not None
    assert movement.explained == 0
    assert "nan" not in movement.all_dots
