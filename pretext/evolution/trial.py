"""Try a generator before it costs budget: ask for a few variations, and for a few texts as the expansion does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pretext.config.settings import Screening
from pretext.evolution.expansion import Writer
from pretext.evolution.variation import Variation
from pretext.models.engines import ignore_progress
from pretext.run.records import Candidate
from pretext.screening.screen import Screen
from pretext.screening.usable import LEAST_SHARE, make_barren_error

_BATCHES = (8, 56)  # the second only where the first leaves a doubt
_CLEAR_SHARE = 0.25


def try_variation(variation: Variation, candidates: Sequence[Candidate], screening: Screening, seed: int) -> None:
    """Ask for variations of some of the candidates, which are public.

    Raises:
        EngineError: the generator fails, or less than a tenth of what it writes is usable.
    """
    rng = np.random.default_rng([seed, 0, 5])

    def ask(count: int, screen: Screen) -> None:
        rows = rng.permutation(np.resize(np.arange(len(candidates)), count))
        for text in variation([candidates[row] for row in rows], candidates, rng):
            screen.keep(text)

    _try(ask, screening)


def try_writer(writer: Writer, screening: Screening) -> None:
    """Ask for a few texts as the expansion does; errors as `try_variation`."""
    _try(lambda count, screen: writer.write(count, count, screen, ignore_progress), screening)


def _try(ask: Callable[[int, Screen], object], screening: Screening) -> None:
    """Ask for texts, which `ask` shows to the screen, until it is clear whether they are usable."""
    screen, asked = Screen(screening), 0
    for count in _BATCHES:
        ask(count, screen)
        asked += count
        usable = asked - screen.dropped.total()
        if usable >= _CLEAR_SHARE * asked:
            return
    if usable < LEAST_SHARE * asked:
        raise make_barren_error(usable, screen.dropped)
