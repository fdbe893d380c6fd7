"""Compare the transformers engine with plain `model.generate` and its defaults, in tokens per second.

    python scripts/bench/generation.py PUBLIC_FILE [--model embedded] [--prompts 128] [--tokens 48]

Both sides hold the same model, take the same few-shot prompts in batches of the same number of rows, sample alike and
end at the same strings. They take turns, with new prompts in every repetition. The plain side does what its guide says:
the tokenizer pads each batch on the left, in the order of the prompts, and `generate` writes with the dtype, attention
and cache that the library chooses. Only tokens of the answers count, not what a finished row is filled up with.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import islice
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pretext.models.engines import Sampling
from pretext.models.engines.transformers import TransformersEngine
from pretext.models.sources import resolve_generator
from pretext.prompts import Prompt, PromptStyle, make_few_shot_prompt
from pretext.tables import Source, read_columns

BATCH = 32


def main() -> None:
    """Print a table: median tokens per second of both, and every repetition."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("public", help="public file with a column `text`; the prompts' examples come from it")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=48, help="longest completion")
    parser.add_argument("--words", type=int, default=55, help="longest example, in words")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    batches = islice(read_columns(Source(options.public), ["text"]), 20)
    texts = [" ".join(str(text).split()[: options.words]) for batch in batches for text in batch["text"]]
    engine, plain = TransformersEngine(options.model), PlainTransformers(options.model)
    speeds: dict[str, list[float]] = {"model.generate": [], "our engine": []}
    for repetition in range(-1, options.repetitions):  # the first one warms up
        rng = np.random.default_rng(repetition + 1)
        prompts = [
            make_few_shot_prompt(rng.choice(texts, 3).tolist(), None, chat=False) for _ in range(options.prompts)
        ]
        sampling = Sampling(options.tokens, top_p=0.95, stop=PromptStyle().stops, seed=repetition + 1)
        for name, write in (
            ("model.generate", plain.write),
            ("our engine", lambda *request: write_tokens(engine, *request)),
        ):
            start = time.perf_counter()
            tokens = write(prompts if repetition >= 0 else prompts[:BATCH], sampling)
            if repetition >= 0:
                speeds[name].append(tokens / (time.perf_counter() - start))
    sizes = f"{options.prompts} prompts, at most {options.tokens} tokens"
    print(f"{options.model}, {sizes}, {torch.get_num_threads()} threads")
    for name, measured in speeds.items():
        every = " ".join(f"{speed:.0f}" for speed in measured)
        print(f"{name:<16} {statistics.median(measured):7.1f} tokens/s   ({every})")


def write_tokens(engine: TransformersEngine, prompts: list[Prompt], sampling: Sampling) -> int:
    """Return the number of tokens that the engine writes."""
    before = engine.usage
    engine.complete(prompts, sampling)
    return (engine.usage - before).written


class PlainTransformers:
    """Calls `generate` as its guide shows it."""

    def __init__(self, name: str) -> None:
        source = resolve_generator(name)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(source, padding_side="left")
        self._model: Any = AutoModelForCausalLM.from_pretrained(source, device_map="auto")

    def write(self, prompts: list[Prompt], sampling: Sampling) -> int:
        """Return the number of tokens in the answers."""
        torch.manual_seed(sampling.seed)
        tokens = 0
        for start in range(0, len(prompts), BATCH):
            texts = [prompt.text for prompt in prompts[start : start + BATCH]]
            inputs = self._tokenizer(texts, return_tensors="pt", padding=True).to(self._model.device)
            written = self._model.generate(
                **inputs,
                max_new_tokens=sampling.max_tokens,
                do_sample=True,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=0,
                stop_strings=list(sampling.stop),
                tokenizer=self._tokenizer,
            )
            answers = written[:, inputs["input_ids"].shape[1] :]
            tokens += int((answers != self._tokenizer.pad_token_id).sum())
        return tokens


if __name__ == "__main__":
    main()
