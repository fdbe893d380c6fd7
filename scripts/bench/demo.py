"""Where the time of the demonstration goes: its phases, and how much of the whole is the models' work.

    make demo && python scripts/bench/demo.py demo

Runs the demonstration's configuration anew, in a folder and with a ledger of its own. What is neither loading a model
nor a call of one (reading, voting, noise, ledger, selection, screening, prompts, files) should be at most 5 %.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()


def main() -> None:
    """Print two tables: seconds by phase, and by who worked."""
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
    print_table("phase (public work)", {name: phase["seconds"] for name, phase in phases.items()}, whole)
    seconds["everything else"] = whole - sum(seconds.values())
    print_table("who worked", seconds, whole)


def run_again(folder: Path, out: Path, seconds: defaultdict[str, float]) -> dict[str, Any]:
    """The timings of a second run of the same configuration; what its models take is added to `seconds`."""
    from pretext.jobs.parts import Parts
    from pretext.jobs.run import synthesize
    from pretext.run.folder import Run

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] += time.perf_counter() - started

        return call

    _, config = Run.open(folder)
    parts = Parts.of(config)
    engine: Any = timed("loading models", parts.engine)()
    engine.complete = timed("generator", engine.complete)
    parts.embedder.opened = timed("embedder", timed("loading models", parts.embedder)())
    return dict(synthesize(config, out, parts).load("timings.json"))


def print_table(title: str, seconds: dict[str, float], whole: float) -> None:
    """Name, seconds, share of the whole."""
    print(f"\n{title:<28} {'seconds':>8} {'share':>7}")
    for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{name:<28} {value:8.1f} {100 * value / whole:6.1f} %")
    print(f"{'whole':<28} {whole:8.1f}")


if __name__ == "__main__":
    main()
