"""Measure what one release costs with few and with many releases before it: nothing may grow with them.

    python scripts/bench/ledger.py [--counts 10 1000 10000 100000] [--coordinates 512] [--times 21]

Makes a ledger in a temporary folder and fills it with the ledger's own append, many releases to a transaction. Prints a
table of the milliseconds (medians) that a release, a replay and a seal take, each with opening the ledger, and of what
reads the whole history on purpose: the account and the registration with which a run begins. Every measured release is
a real one: noise, commit and fsync; its processor time stands beside it, since a busy disk makes the other one vary.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from privacy import Bounded, Budget, DiscreteGaussian, Ledger, Relation, Release, Unit, chain
from privacy.bounding import grid_for
from privacy.storage import now

DATASET, RELATION = "bench", Relation.ADD_REMOVE
NORM_SQUARED = Fraction(8)


def main() -> None:
    """Fill a ledger step by step, and measure at each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 1_000, 10_000, 100_000])
    parser.add_argument("--coordinates", type=int, default=512)
    parser.add_argument("--times", type=int, default=21)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        register(path)
        measured, rows = 0, []
        for count in options.counts:
            fill(path, count - measured, options.coordinates, f"{count}/before")
            rows.append((count, *measure(path, options.coordinates, options.times, f"{count}/timed")))
            measured = count + options.times
    show(rows)


def register(path: Path) -> None:
    """What a run begins with."""
    Ledger(path).register(DATASET, "memory:bench", Unit("user"), RELATION, Budget(1e6, 1e-6))


def fill(path: Path, count: int, coordinates: int, prefix: str) -> None:
    """Append releases of nothing but zeros, a thousand to a transaction."""
    mechanism, (_, norm_squared) = noise(), grid_for(NORM_SQUARED)
    value = np.zeros(coordinates, np.int64)
    for start in range(0, count, 1000):
        with Ledger(path).file.writing() as connection:
            last = chain.last_entry(connection, DATASET)
            for number in range(start, min(start + 1000, count)):
                label = f"{prefix}/{number}"
                release = Release(label, "digest", mechanism, norm_squared, True, RELATION, value, now(), "bench")
                last = chain.append(connection, DATASET, last, release)


def measure(path: Path, coordinates: int, times: int, prefix: str) -> list[float]:
    """Seconds of a release (by the clock and of the processor), a replay, a seal, an account and a registration."""
    grid, norm_squared = grid_for(NORM_SQUARED)
    bounded, mechanism = Bounded(np.zeros(coordinates, np.int64), grid, norm_squared, nonnegative=True), noise()

    def release(number: int) -> None:
        Ledger(path).release(DATASET, f"{prefix}/{number}", "digest", bounded, mechanism, RELATION)

    def replay(number: int) -> None:
        Ledger(path).replay(DATASET, f"{prefix}/{number}", "digest")

    return [
        *median_seconds(release, times),
        median_seconds(replay, times)[0],
        median_seconds(lambda number: Ledger(path).seal(DATASET, prefix, str(number)), times)[0],
        median_seconds(lambda number: Ledger(path).account(DATASET), 1)[0],
        median_seconds(lambda number: register(path), 1)[0],
    ]


def median_seconds(work: Callable[[int], object], times: int) -> tuple[float, float]:
    """The medians, by the clock and of the processor, over calls with the numbers 0, 1, ..."""
    clock, processor = [], []
    for number in range(times):
        start, start_processor = time.perf_counter(), time.process_time()
        work(number)
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_processor)
    return statistics.median(clock), statistics.median(processor)


def noise() -> DiscreteGaussian:
    """So much that the budget is never in the way."""
    return DiscreteGaussian.for_sum(1e4, NORM_SQUARED, RELATION)


def show(rows: list[tuple[float, ...]]) -> None:
    """The table, and how many times as long the last row takes as the first."""
    columns = ("before", "release", "processor", "replay", "seal", "account", "register")
    print(" ".join(f"{column:>10}" for column in columns) + "   (milliseconds)")
    for count, *seconds in rows:
        print(f"{count:10,} " + " ".join(f"{value * 1e3:10,.1f}" for value in seconds))
    ratios = [last / first for first, last in zip(rows[0][1:], rows[-1][1:], strict=True)]
    print(f"{'ratio':>10} " + " ".join(f"{ratio:10.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
