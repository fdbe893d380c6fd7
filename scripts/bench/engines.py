"""Compare the vLLM engine and the server engine with a bare `vllm.LLM.generate`, in tokens per second.

    python -m scripts.bench.engines PUBLIC_FILE [--model embedded] [--prompts 64] [--tokens 32]

Needs an environment with vLLM. Three processes hold the same model with the same settings: one that calls nothing but
`LLM.generate` on token ids, the engine's own, and vLLM's OpenAI-compatible server behind the server engine. They take
turns on the same few-shot prompts, new ones in every repetition, so that no cache of prefixes helps; the two that wait
are stopped. Our time holds all that `complete` does: encoding, pipe or network, cutting. The vLLM engine should reach
95 % of the bare call's median, the server 85 %.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from pretext.models.chat_format import encode_prompt
from pretext.models.engines import Engine, Sampling
from pretext.models.engines.openai import OpenAIEngine
from pretext.models.engines.subprocess import ChildProcess
from pretext.models.engines.vllm import VLLMEngine
from pretext.models.engines.vllm_worker import CPU_BLOCK_TOKENS
from pretext.prompts import Prompt, make_few_shot_prompt
from pretext.tables import Source, read_columns
from tests.support.vllm_server import MODEL, vllm_server

Contestant = Callable[[list[Prompt], Sampling], tuple[float, int]]


def main() -> None:
    """Print a table: median tokens per second, share of the bare call's, and every repetition."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("public", help="public file with a column `text`; the prompts' examples come from it")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32, help="longest completion")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--memory-share", type=float, default=0.1, help="of the memory, for each of the three")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing that is stopped must stay behind
    texts = read_texts(options.public, 4 * options.prompts * (options.repetitions + 1))
    speeds: dict[str, list[float]] = {}
    with contestants(options.model, options.memory_share) as (racers, groups):
        for repetition in range(-1, options.repetitions):  # the first one warms up
            prompts = make_prompts(texts, options.prompts, repetition + 1)
            names = list(racers)
            for name in names[repetition % 3 :] + names[: repetition % 3]:
                with alone(groups[name], groups):
                    seconds, tokens = racers[name](prompts, Sampling(options.tokens, seed=repetition + 1))
                print(f"{repetition} {name}: {tokens} tokens in {seconds:.1f} s", file=sys.stderr, flush=True)
                if repetition >= 0:
                    speeds.setdefault(name, []).append(tokens / seconds)
    print_table(speeds, f"{options.model}, {options.prompts} prompts, at most {options.tokens} tokens each")


def read_texts(public: str, count: int) -> list[str]:
    """Return `count` texts, each cut to 30 words."""
    batches = read_columns(Source(public), ["text"])
    texts = (" ".join(text.split()[:30]) for batch in batches for text in batch["text"] if isinstance(text, str))
    return list(islice(filter(None, texts), count))


def make_prompts(texts: list[str], count: int, repetition: int) -> list[Prompt]:
    """Return few-shot prompts of three examples each, new ones in every repetition."""
    rng = np.random.default_rng(repetition)
    return [
        make_few_shot_prompt([str(text) for text in rng.choice(texts, 3, replace=False)], None, chat=False)
        for _ in range(count)
    ]


@contextmanager
def contestants(model: str, memory_share: float) -> Iterator[tuple[dict[str, Contestant], dict[str, int]]]:
    """Yield the three contestants by name, and their process groups."""
    ours = VLLMEngine(model, memory_share=memory_share)
    bare = ChildProcess("scripts.bench.bare_vllm", ours.environment)
    bare.send(ours.model)
    bare.receive()
    flags = [f"--gpu-memory-utilization={memory_share}"]
    if ours.model.cache is not None:
        flags += [f"--kv-cache-memory-bytes={ours.model.cache}", f"--block-size={CPU_BLOCK_TOKENS}"]
    with (
        tempfile.TemporaryDirectory() as folder,
        vllm_server(ours.model.source, Path(folder) / "log", *flags) as server,
    ):
        remote = OpenAIEngine(MODEL, base_url=server.url)
        racers: dict[str, Contestant] = {
            "bare LLM.generate": lambda prompts, sampling: _bare(bare, ours, prompts, sampling),
            "vLLM engine": lambda prompts, sampling: _complete(ours, prompts, sampling),
            "server engine": lambda prompts, sampling: _complete(remote, prompts, sampling),
        }
        yield racers, dict(zip(racers, (bare.pid, ours.pid, server.pid), strict=True))
    bare.close()
    ours.close()


@contextmanager
def alone(runner: int, groups: dict[str, int]) -> Iterator[None]:
    """Stop the process groups of all other contestants meanwhile."""
    others = [group for group in groups.values() if group != runner]
    for group in others:
        os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        for group in others:
            os.killpg(group, signal.SIGCONT)


def _bare(child: ChildProcess, ours: VLLMEngine, prompts: list[Prompt], sampling: Sampling) -> tuple[float, int]:
    child.send(([encode_prompt(prompt, ours.tokenizer) for prompt in prompts], sampling))
    seconds, tokens = child.receive()
    return seconds, tokens


def _complete(engine: Engine, prompts: list[Prompt], sampling: Sampling) -> tuple[float, int]:
    before, started = engine.usage, time.perf_counter()
    engine.complete(prompts, sampling)
    return time.perf_counter() - started, (engine.usage - before).written


def print_table(speeds: dict[str, list[float]], title: str) -> None:
    """Print a line per contestant."""
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    bare = medians["bare LLM.generate"]
    print(f"{title}\n{'':<20} {'tokens/s':>9} {'of bare':>8}   repetitions")
    for name, values in speeds.items():
        repetitions = " ".join(f"{value:.0f}" for value in values)
        print(f"{name:<20} {medians[name]:>9.0f} {medians[name] / bare:>8.1%}   {repetitions}")


if __name__ == "__main__":
    main()
