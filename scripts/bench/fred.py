"""Measure speed and memory of FreD's two numerical parts, each against a bare computation.

    python scripts/bench/fred.py [--texts 1000000] [--repetitions 5]

1. Moments of rows of 384 dimensions, in chunks as they come from an embedder, against the bare product of the
   same chunks with themselves (`chunk.T @ chunk`, 32 bits, one sum).
2. The Frechet distance by symmetric eigendecompositions against scipy.linalg.sqrtm, at 384 and 768 dimensions.
3. Peak memory of the moments of a tenth of the rows and of all, each in a process of its own.

All take turns; medians count. Rows are random, since their values do not change the time.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from pretext.fred.estimation import Moments
from pretext.fred.frechet import frechet
from pretext.fred.public_sets import sum_in_groups

CHUNK = 8192


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of is not None:
        sum_in_groups(chunks(options.memory_of))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    ours, bare = time_in_turns(
        options.repetitions, lambda: sum_in_groups(chunks(options.texts)), lambda: product(options.texts)
    )
    print_comparison(f"moments of {options.texts:,} x 384", ours, "bare product", bare)
    for d in (384, 768):
        left, right = law(d, 0), law(d, 1)
        ours, theirs = time_in_turns(
            options.repetitions, partial(frechet, left, right), partial(textbook_frechet, left, right)
        )
        print_comparison(f"Frechet distance, d = {d}", ours, "scipy sqrtm", theirs)
        print(
            f"{'':<32} relative difference {abs(float(frechet(left, right)) / textbook_frechet(left, right) - 1):.1e}"
        )
    for texts in (options.texts // 10, options.texts):
        command = [sys.executable, __file__, "--memory-of", str(texts)]
        peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        print(f"{f'peak memory, {texts:,} rows':<32} {peak} MiB")


def chunks(texts: int) -> Iterator[NDArray[np.float32]]:
    """Yield the same random chunk again and again, so that making it does not count."""
    rows = np.random.default_rng(0).standard_normal((CHUNK, 384), np.float32)
    for start in range(0, texts, CHUNK):
        yield rows[: min(CHUNK, texts - start)]


def product(texts: int) -> NDArray[np.float32]:
    """Compute what no implementation can do without."""
    total = np.zeros((384, 384), np.float32)
    for rows in chunks(texts):
        total += rows.T @ rows
    return total


def law(d: int, seed: int) -> Moments:
    """Return moments of random rows with a falling spectrum."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((4 * d, d)) / np.sqrt(np.arange(1, d + 1)) + 0.1 * rng.standard_normal(d)
    return Moments(rows.mean(axis=0), rows.T @ rows / len(rows))


def textbook_frechet(left: Moments, right: Moments) -> float:
    """Compute the Frechet distance by the textbook formula."""
    traces = np.trace(left.covariance + right.covariance - 2 * sqrtm(left.covariance @ right.covariance).real)
    return float(np.square(left.mean - right.mean).sum() + traces)


def time_in_turns(repetitions: int, *callables: Callable[[], object]) -> list[float]:
    """Return the median seconds of each; they take turns, after a round to warm up."""
    seconds: list[list[float]] = [[] for _ in callables]
    for _ in range(repetitions + 1):
        for taken, call in zip(seconds, callables, strict=True):
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken[1:]) for taken in seconds]


def print_comparison(name: str, ours: float, baseline: str, seconds: float) -> None:
    """Print one comparison."""
    print(f"{name:<32} {ours:8.3f} s   {baseline} {seconds:8.3f} s   ratio {ours / seconds:.2f}", flush=True)


if __name__ == "__main__":
    main()
