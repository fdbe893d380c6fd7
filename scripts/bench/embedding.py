"""Compare our embedder with plain `SentenceTransformer.encode`: texts per second, and the cosines of their rows.

    python scripts/bench/embedding.py FILE.jsonl.gz [FILE ...] [--texts 2000] [--tokens 64] [--column text]
        [--runtime torch|openvino] [--dtype float32|bfloat16]

Both cut texts to the same number of tokens and take turns; the median of five turns counts. The plain side runs in
float32 with the defaults of the library.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from voting import time_interleaved

from pretext.models.embedder import SentenceEmbedder
from pretext.models.sources import resolve_embedder
from pretext.tables import Source, read_columns


def main() -> None:
    """Print a line per file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--column", default="text")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--runtime", choices=["torch", "openvino"])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    arguments = parser.parse_args()
    plain = SentenceTransformer(str(resolve_embedder(arguments.model)), device="cpu")
    plain.max_seq_length = arguments.tokens
    started = time.perf_counter()
    ours = SentenceEmbedder(
        arguments.model, arguments.tokens, device="cpu", dtype=arguments.dtype, runtime=arguments.runtime
    )
    running = ours.runtime or "encode"
    print(f"ours: {running}, opened in {time.perf_counter() - started:.1f} s")
    print(f"{'file':<28} {'tokens':>6} {'plain/s':>8} {'ours/s':>8} {'ratio':>6} {'least cosine':>13} {'mean':>9}")
    for file in arguments.files:
        _compare(file, arguments, plain, ours)


def _compare(file: Path, arguments: argparse.Namespace, plain: SentenceTransformer, ours: SentenceEmbedder) -> None:
    batches = read_columns(Source(str(file)), [arguments.column])
    texts = [str(text) for batch in batches for text in batch[arguments.column]]
    sample = np.random.default_rng(0).permutation(len(texts))[: arguments.texts]
    texts = [texts[row] for row in sample]
    tokens = statistics.fmean(int(mask.sum()) for mask in plain.preprocess(texts)["attention_mask"])
    ways: list[Callable[[], NDArray[np.float32]]] = [lambda: plain.encode(texts), lambda: ours(texts)]
    expected, rows = (way() for way in ways)
    seconds = time_interleaved(ways)
    cosines = (expected * rows).sum(axis=1) / np.linalg.norm(expected, axis=1)
    speeds = [len(texts) / second for second in seconds]
    print(
        f"{file.name:<28} {tokens:6.1f} {speeds[0]:8.1f} {speeds[1]:8.1f} {speeds[1] / speeds[0]:6.2f} "
        f"{cosines.min():13.5f} {cosines.mean():9.6f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
