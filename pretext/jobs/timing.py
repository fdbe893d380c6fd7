"""Where a run's time and tokens went, by phase.

Only work on public data is timed: the duration of the clients' side would tell how many texts there are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pretext.lazy import Once
from pretext.models.engines import Engine, Usage
from pretext.run.folder import Run
from pretext.run.records import Phase


class Meter:
    """Adds up seconds and the engine's tokens by phase."""

    def __init__(self, engine: Once[Engine]) -> None:
        self._engine = engine
        self.phases: dict[str, Phase] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block toward the phase of that name. Phases do not nest."""
        started, before = time.perf_counter(), self._usage()
        try:
            yield
        finally:
            used = self._usage() - before
            taken = Phase(time.perf_counter() - started, used.read, used.written)
            self.phases[name] = self.phases.get(name, Phase()) + taken

    @contextmanager
    def persist(self, run: Run) -> Iterator[None]:
        """Continue the sums of the run folder, and write them back when the block ends, however it ends.

        A kill loses the times since the last start.
        """
        self.phases |= run.timings()
        try:
            yield
        finally:
            run.save_timings(self.phases)

    def _usage(self) -> Usage:
        return Usage() if self._engine.opened is None else self._engine.opened.usage
