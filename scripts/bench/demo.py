"""Show where the time of the demonstration goes: its phases, and how much of the whole is the models' work.

    make demo && python scripts/bench/demo.py demo

Runs the demonstration's configuration again, in a new folder and with a ledger of its own. Everything but loading and
calling models (reading, voting, noise, ledger, selection, screening, prompts, files) should take at most 5 %.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()


def main() -> None:
    """Print two tables: seconds by phase, and by worker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the demonstration")
    demo = parser.parse_args().folder.resolve()
    seconds: defaultdict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        home.mkdir()
        (home / "models").symlink_to(demo / "home" / "models")
        os.environ["PRETEXT_HOME"] = str(home)
        phases = run_again(demo / "run", Path(scratch) / "run", seconds)
    whole = time.perf_counter() - STARTED
    print_table("phase (public work)", {name: phase.seconds for name, phase in phases.items()}, whole)
    seconds["everything else"] = whole - sum(seconds.values())
    print_table("worker", seconds, whole)


def run_again(folder: Path, out: Path, seconds: defaultdict[str, float]) -> Mapping[str, Any]:
    """Run the same configuration again and return its timings; add the seconds of its models to `seconds`."""
    from pretext.jobs.parts import Parts
    from pretext.jobs.run import synthesize
    from pretext.run.folder import Run

    def add_clock(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] += time.perf_counter() - started

        return call

    _, config = Run.open(folder)
    parts = Parts.of(config)
    engine: Any = add_clock("loading models", parts.engine)()
    engine.complete = add_clock("generator", engine.complete)
    parts.embedder.opened = add_clock("embedder", add_clock("loading models", parts.embedder)())
    return synthesize(config, out, parts).timings()


def print_table(title: str, seconds: dict[str, float], whole: float) -> None:
    """Print name, seconds and share of the whole."""
    print(f"\n{title:<28} {'seconds':>8} {'share':>7}")
    for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{name:<28} {value:8.1f} {100 * value / whole:6.1f} %")
    print(f"{'whole':<28} {whole:8.1f}")


if __name__ == "__main__":
    main()
