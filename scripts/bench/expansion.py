"""Measure the expansion without its model: texts/s, where that time goes, and peak memory by number of texts.

    python scripts/bench/expansion.py FOLDER [--texts 10000 100000 1000000] [--chunk 8192] [--seeds 2000]

A scripted generator writes texts of about twenty words; its time is not counted. FOLDER is emptied first. A second
table compares our prompts and our filter with the obvious ones: a `rng.choice` for each prompt, a set of digests.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import shutil
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pretext.config.resolve import resolve
from pretext.config.settings import Config
from pretext.evolution.expansion import PromptSampler
from pretext.jobs.run import expand_seeds
from pretext.models.engines import Sampling, Usage, ignore_progress
from pretext.prompts import Prompt, make_few_shot_prompt
from pretext.run.account import AccountReference
from pretext.run.folder import Run
from pretext.run.records import Seed
from pretext.run.shards import Shards
from pretext.screening.screen import BloomFilter, Screen

WORDS = [f"word{number}" for number in range(5000)]


class CallTimer:
    """Sum the time of the functions that it wraps, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wrap(self, owner: type, method: str, name: str) -> None:
        """Put a clock around a method."""
        real = getattr(owner, method)
        self.seconds[name] = 0.0

        def call(*arguments: object, **named: object) -> object:
            started = time.perf_counter()
            try:
                return real(*arguments, **named)
            finally:
                self.seconds[name] += time.perf_counter() - started

        setattr(owner, method, call)


class Babbler:
    """An engine that answers every prompt with twenty random words."""

    usage = Usage()

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, advance: Callable[[int], None] = ignore_progress
    ) -> list[str | None]:
        """See `pretext.models.engines.Engine`."""
        rng = np.random.default_rng(sampling.seed)
        drawn = rng.integers(len(WORDS), size=(len(prompts), 20)).tolist()
        return [" ".join([WORDS[place] for place in row]) for row in drawn]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--chunk", type=int, default=8192)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        _time_expansion(options, *options.measure)
        return
    print("files             texts   texts/s   seconds by part (the rest is the loop)                       peak MiB")
    for kind in ("file", "shards", "parquet"):
        for texts in options.texts:
            shutil.rmtree(options.folder, ignore_errors=True)
            sizes = ["--chunk", str(options.chunk), "--seeds", str(options.seeds), "--texts", str(texts)]
            command = [sys.executable, __file__, str(options.folder), *sizes, "--measure", kind]
            subprocess.run([*command, "write"], check=True)
        subprocess.run([*command, "resume"], check=True)
    _compare_prompts_and_filters(options)


def _time_expansion(arguments: argparse.Namespace, kind: str, task: str) -> None:
    """Print a line of the table; called in a process of its own, whose memory is measured."""
    shards = [] if kind == "file" else ["expansion.shard_texts=100000"]
    overrides = [*shards, "expansion.format=parquet"] if kind == "parquet" else shards
    config, seeds, texts = _make_config(arguments, overrides), _make_seeds(arguments.seeds), arguments.texts[0]
    run = Run.create(arguments.folder, config, AccountReference("none", "none", "none"))
    clock = CallTimer()
    clock.wrap(Babbler, "complete", "generator")
    clock.wrap(PromptSampler, "draw", "prompts")
    clock.wrap(Screen, "keep", "screening")
    clock.wrap(Shards, "append", "writing")
    clock.wrap(Shards, "seal", "sealing")
    clock.wrap(Run, "save", "saving")
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.perf_counter()
    expand_seeds(config, run, seeds, Babbler, texts + (arguments.chunk // 2 if task == "resume" else 0))
    seconds = time.perf_counter() - started - clock.seconds.pop("generator")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    parts = "  ".join(f"{name} {part:.2f}" for name, part in clock.seconds.items())
    name = kind if task == "write" else f"{kind}, grown"
    print(
        f"{name:<14} {texts:>8,} {texts / seconds:>9,.0f}   {parts:<70} {peak:.0f} ({before:.0f} at the start)",
        flush=True,
    )


def _compare_prompts_and_filters(arguments: argparse.Namespace) -> None:
    config, seeds = _make_config(arguments, []), _make_seeds(arguments.seeds)
    examples, texts = (
        PromptSampler(seeds, config.expansion.examples, config.prompt_style),
        [f"text number {number} of a list" for number in range(1_000_000)],
    )
    ways: dict[str, Callable[[], object]] = {
        "prompts drawn at once": lambda: examples.draw(arguments.chunk, np.random.default_rng(0)),
        "prompts by rng.choice": lambda: _choose_prompts(seeds, arguments.chunk),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    print(f"\n{arguments.chunk} prompts, {arguments.seeds} seeds, median of 5")
    for name, measured in seconds.items():
        print(f"{name:<24} {arguments.chunk / statistics.median(measured):>10,.0f} a second")
    print(f"\nmemory of {len(texts):,} known texts")
    holders: dict[str, Callable[[list[str]], object]] = {"filter": _fill_filter, "set of digests": _fill_set}
    for name, fill in holders.items():
        tracemalloc.start()
        holder = fill(texts)
        print(f"{name:<24} {tracemalloc.get_traced_memory()[0] / 2**20:>10.1f} MiB")
        tracemalloc.stop()
        del holder


def _choose_prompts(seeds: list[Seed], prompts: int) -> list[Prompt]:
    rng, weight = np.random.default_rng(0), np.array([seed.weight for seed in seeds])
    share = weight / weight.sum()
    rows = [rng.choice(len(seeds), 3, replace=False, p=share) for _ in range(prompts)]
    return [make_few_shot_prompt([seeds[row].text for row in picked], None, False) for picked in rows]


def _fill_filter(texts: list[str]) -> BloomFilter:
    known = BloomFilter()
    for text in texts:
        known.add(text)
    return known


def _fill_set(texts: list[str]) -> set[bytes]:
    return {hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts}


def _make_config(arguments: argparse.Namespace, overrides: list[str]) -> Config:
    settings = {"privacy": {"epsilon": 1.0}, "initial": {"prompts": ["public"]}, "speed": {"chunk": arguments.chunk}}
    return resolve(overrides=overrides, settings=settings)


def _make_seeds(count: int) -> list[Seed]:
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(WORDS), size=(count, 15)).tolist()
    return [Seed(" ".join([WORDS[place] for place in row]), 0, 1, 10.0, float(rng.exponential())) for row in drawn]


if __name__ == "__main__":
    main()
