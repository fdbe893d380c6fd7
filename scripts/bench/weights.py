"""Measure how fast weights by maximum entropy are found, against accelerated proximal gradient steps (FISTA).

python scripts/bench/weights.py [--texts 66000] [--features 12000] [--seconds 60]

The texts are drawn from a made-up language with Zipf's frequencies; the released means are those of a part of it, with
noise. FISTA takes the step that the Lipschitz constant of the gradient allows, the largest squared norm of a text.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from pretext.profile.weights import Weights, maximum_entropy

_MARKS_PER_TEXT = 25
_DEVIATION, _BOX = 0.01, 2.5


def main() -> None:
    """Print a line for each solver."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=66_000)
    parser.add_argument("--features", type=int, default=12_000)
    parser.add_argument("--seconds", type=float, default=60, help="for FISTA")
    options = parser.parse_args()
    features, mean, deviation = draw_problem(options.texts, options.features, np.random.default_rng(0))
    print(f"{options.texts:,} texts, {options.features:,} features, {features.nnz:,} marks")
    for cap in (1.0, 0.002):
        start = time.perf_counter()
        weights = maximum_entropy(features, mean, deviation, box=_BOX, cap=cap)
        print(f"L-BFGS-B, cap {cap:<6g} {time.perf_counter() - start:6.1f} s  {describe(weights)}")
    weights = descend(features, mean, deviation, options.seconds)
    print(f"FISTA                {options.seconds:6.1f} s  {describe(weights)}")


def draw_problem(
    n: int, d: int, rng: np.random.Generator
) -> tuple[scipy.sparse.csr_array, NDArray[np.float64], NDArray[np.float64]]:
    """Draw a pool of several topics, and the noisy means of one of them with some of another."""
    topics = [rng.permutation(d) for _ in range(10)]
    ranks = np.minimum(rng.zipf(1.3, (n, _MARKS_PER_TEXT)) - 1, d - 1)
    topic = rng.integers(len(topics), size=n)
    own = rng.random((n, _MARKS_PER_TEXT)) < 0.5  # the other half of a text is common to all topics
    columns = np.where(own, np.array(topics)[topic[:, None], ranks], ranks)
    rows = np.repeat(np.arange(n), _MARKS_PER_TEXT)
    features = scipy.sparse.csr_array((np.ones(columns.size, np.float32), (rows, columns.ravel())), shape=(n, d))
    features.data[:] = 1  # a mark that was drawn twice counts once
    target = np.where(topic == 0, 1.0, np.where(topic == 1, 0.3, 0.0))
    mean = features.T @ (target / target.sum()) + rng.normal(0, _DEVIATION, d)
    return features, mean, np.full(d, _DEVIATION)


def descend(
    features: scipy.sparse.csr_array, mean: NDArray[np.float64], deviation: NDArray[np.float64], seconds: float
) -> Weights:
    """Take proximal steps with Nesterov's momentum until the time is up."""
    scaled = scipy.sparse.csr_array(features.astype(np.float64) @ scipy.sparse.diags_array(1 / deviation))
    transposed, target = scipy.sparse.csr_array(scaled.T), np.clip(mean, 0, 1) / deviation
    size = 1 / float((scaled**2).sum(axis=1).max())
    t = previous = np.zeros(len(mean))
    start, iteration = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        iteration += 1
        point = t + (iteration - 1) / (iteration + 2) * (t - previous)
        scores = scaled @ point
        p = np.exp(scores - scores.max())
        p /= p.sum()
        moved = point - size * (transposed @ p - target)
        previous, t = t, np.sign(moved) * np.maximum(np.abs(moved) - size * _BOX, 0)
    return Weights(p, t / deviation, float(np.abs(transposed @ p - target).max()) - _BOX, iteration)


def describe(weights: Weights) -> str:
    """Describe weights in one line."""
    return (
        f"{weights.iterations:>5} iterations  violation {weights.violation:6.2f} sd  "
        f"effective size {weights.effective_size:8,.0f}  largest {weights.largest:.4f}"
    )


if __name__ == "__main__":
    main()
