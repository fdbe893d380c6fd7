"""Measure a vote, from embeddings to the clipped histogram, against a bare search with faiss: seconds and memory.

    python scripts/bench/voting.py [--candidates 2048] [--dimensions 384] [--million]
        [--points PUBLIC.jsonl.gz [...] --queries TEXTS.jsonl.gz]

The rows of the first table are random unit rows; a search takes as long on any others. --million adds 300,000 and
1,000,000 texts. With --points and --queries a second table compares the approximate search with the exact one
on embedded texts (100,000 of --points, which takes a while, and 10,000 of --queries).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from pretext.clients import nearest as voting
from pretext.clients.nearest import find_nearest
from pretext.clients.voting import Ballot, Clients, VoteRule
from pretext.models.embedder import SentenceEmbedder
from pretext.tables import Source, read_columns
from pretext.vectors import normalize_rows

Rows = NDArray[np.float32]
_TURNS = 5


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=2048)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--points", nargs="+", type=Path)
    parser.add_argument("--queries", nargs="+", type=Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    points = _random_rows(arguments.candidates, arguments.dimensions, rng)
    print(f"{'texts':>9} {'bare faiss s':>13} {'vote s':>8} {'ratio':>6} {'bare MiB':>9} {'vote MiB':>9}")
    for texts in [100_000, *([300_000, 1_000_000] if arguments.million else [])]:
        _compare(points, _random_rows(texts, arguments.dimensions, rng), rng)
    if arguments.points and arguments.queries:
        _approximate(_embed_files(arguments.points, 100_000), _embed_files(arguments.queries, 10_000))


def _compare(points: Rows, queries: Rows, rng: np.random.Generator) -> None:
    """A line: the median of five turns each, taken in turn."""
    texts = len(queries)
    clients = Clients(queries, rng.integers(0, texts // 8, texts), np.zeros(texts, np.int64))
    ballot, rule = Ballot(points, np.zeros(len(points), np.int64)), VoteRule(1, Fraction(8), False)

    def bare() -> Any:
        index = faiss.IndexFlatIP(points.shape[1])
        index.add(points)
        return index.search(queries, 1)

    def vote() -> Any:
        return clients.vote(ballot, rule)

    ways: list[Callable[[], Any]] = [bare, vote]
    memory = [_extra_mebibytes(way) for way in ways]
    seconds = time_interleaved(ways)
    print(
        f"{texts:9} {seconds[0]:13.3f} {seconds[1]:8.3f} {seconds[1] / seconds[0]:6.2f} "
        f"{memory[0]:9.0f} {memory[1]:9.0f}",
        flush=True,
    )


def _approximate(points: Rows, queries: Rows) -> None:
    """A line per search: seconds, and the share of queries whose very nearest point it finds."""

    def search(least: int) -> NDArray[np.int64]:
        voting.APPROXIMATE_FROM = least
        return find_nearest(points, queries, 1)

    print(f"{'search':<12} {'points':>8} {'queries':>8} {'seconds':>8} {'recall@1':>9}")
    exact = search(len(points) + 1)
    for name, least in [("exact", len(points) + 1), ("approximate", len(points))]:
        started = time.perf_counter()
        nearest_rows = search(least)
        seconds = time.perf_counter() - started
        print(
            f"{name:<12} {len(points):8} {len(queries):8} {seconds:8.2f} {(nearest_rows == exact).mean():9.4f}",
            flush=True,
        )


def time_interleaved(ways: Sequence[Callable[[], Any]]) -> list[float]:
    """Return the median seconds of each way; they take turns."""
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(_TURNS):
        for way, times in zip(ways, taken, strict=True):
            started = time.perf_counter()
            way()
            times.append(time.perf_counter() - started)
    return [statistics.median(times) for times in taken]


def _extra_mebibytes(way: Callable[[], Any]) -> float:
    """How far the resident memory rises while `way` runs (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    way()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _random_rows(n: int, d: int, rng: np.random.Generator) -> Rows:
    rows = np.empty((n, d), np.float32)
    for start in range(0, n, 8192):
        rows[start : start + 8192] = normalize_rows(rng.standard_normal(rows[start : start + 8192].shape, np.float32))
    return rows


def _embed_files(files: Sequence[Path], most: int) -> Rows:
    batches = (batch for file in files for batch in read_columns(Source(str(file)), ["text"]))
    texts = [str(text) for batch in batches for text in batch["text"]]
    return SentenceEmbedder("embedded", 64)(texts[:most])


if __name__ == "__main__":
    main()
