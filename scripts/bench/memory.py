"""Measure the peak memory of the private side: 1,000,000 texts of 100,000 clients, read, embedded and voted with.

    python scripts/bench/memory.py [--texts 1000000]

The rows that stand in for embeddings are random (384 dimensions, float32), because embedding a million texts takes an
hour on two cores; the real embedder is loaded beside them, so that its memory counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from pretext.clients.private_data import read_private
from pretext.clients.voting import Ballot, Clients, VoteRule
from pretext.config.settings import Data
from pretext.models.embedder import SentenceEmbedder
from pretext.vectors import normalize_rows


def main() -> None:
    """Print a line per step: seconds, peak resident memory in GiB."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=1_000_000)
    texts = parser.parse_args().texts
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "private.jsonl"
        with path.open("w") as file:
            for number in range(texts):
                text = f"message number {number} of somebody who writes about ten words at a time"
                file.write(json.dumps({"client": f"c{number % (texts // 10)}", "text": text}) + "\n")
        started = time.perf_counter()
        embed = SentenceEmbedder("embedded", 64)
        embed(["one text to warm up"] * 64)
        _report("embedder loaded", started)
        private = read_private(Data(path=str(path), client_column="client"), 10)
        _report(f"{len(private.texts)} texts read", started)
        rng = np.random.default_rng(0)
        rows = np.empty((len(private.texts), 384), np.float32)
        for start in range(0, len(rows), 8192):
            rows[start : start + 8192] = normalize_rows(
                rng.standard_normal(rows[start : start + 8192].shape, np.float32)
            )
        clients = Clients(rows, private.client, private.label)
        _report("embeddings held", started)
        points = normalize_rows(rng.standard_normal((1024, 384), np.float32))
        clients.vote(Ballot(points, np.zeros(1024, np.int64)), VoteRule(1, Fraction(10), False))
        _report("one round of votes on 1024 candidates", started)


def _report(step: str, started: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{step:<40} {time.perf_counter() - started:8.1f} s   peak {peak:5.2f} GiB")


if __name__ == "__main__":
    main()
