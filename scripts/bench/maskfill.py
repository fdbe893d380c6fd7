"""Compare mask-filling with the paper's procedure on the same model, dtype and threads: texts/s and likelihood.

    python scripts/bench/maskfill.py TEXTS --model MODEL [--texts 256] [--runs 5] [--masks-per-pass 1 2 4]

TEXTS is a file of texts (.jsonl.gz with the column text). The paper's procedure (arXiv 2406.02958): rows padded to 64
tokens, batches of 256, one mask of each row refilled per forward pass, every position scored. Its own code hides as
many tokens of every row as 30 % of the batch's shortest row has; here both sides hide 30 % of each row's own, so that
they do the same work. `--likelihood` leaves the times out and computes the mean pseudo-log-likelihood per token of all
runs' results instead: each token hidden in turn and scored by the same model, mean over a text, mean over the texts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from pretext.config.resolve import resolve
from pretext.evolution.mask_filling import MaskFill
from pretext.models.masked_lm import MaskedLM
from pretext.models.precision import choose_dtype
from pretext.models.sources import resolve_masked
from pretext.run.records import Candidate

LENGTH, BATCH, SHARE = 64, 256, 0.3
Fill = Callable[[list[str], int], list[str]]


def main() -> None:
    """Print a table: a line for the paper's procedure and one for each number of masks per pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", required=True, help="folder or name of a masked language model")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--passes", type=int, default=2, help="how often in a row each text is varied")
    parser.add_argument("--masks-per-pass", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--likelihood", action="store_true")
    arguments = parser.parse_args()
    texts = draw_texts(arguments.file, arguments.texts)
    tokenizer, model = load_masked_model(arguments.model)
    ways: dict[str, Fill] = {
        "the paper's procedure": lambda texts, seed: fill_as_paper(texts, seed, arguments.passes, tokenizer, model)
    }
    for count in arguments.masks_per_pass:
        ways[f"ours, {count} mask{'s' * (count > 1)} per pass"] = ours(arguments.model, arguments.passes, count)
    tokens = sum(map(len, tokenizer(texts, truncation=True, max_length=LENGTH)["input_ids"]))
    print(f"{len(texts)} texts, {tokens} tokens; {arguments.model}, {model.dtype}, {torch.get_num_threads()} threads")
    if arguments.likelihood:
        print(f"{'the texts themselves':<28} {likelihood(texts, tokenizer, model):8.3f} nats per token")
        compare_likelihood(ways, texts, arguments.runs, lambda results: likelihood(results, tokenizer, model))
    else:
        compare_times(ways, texts, arguments.runs)


def draw_texts(file: Path, count: int) -> list[str]:
    """Return `count` texts of the file, at random, always the same."""
    with gzip.open(file, "rt") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    return [texts[number] for number in np.random.default_rng(0).choice(len(texts), count, replace=False)]


def load_masked_model(name: str) -> tuple[Any, Any]:
    """Return tokenizer and model, as `MaskedLM` loads them."""
    source = resolve_masked(name)
    model = AutoModelForMaskedLM.from_pretrained(source, dtype=getattr(torch, choose_dtype("cpu")))
    return AutoTokenizer.from_pretrained(source), model.eval()


def ours(name: str, passes: int, at_once: int) -> Fill:
    """Return the program's own mask-filling."""
    variation = {"max_tokens": LENGTH, "mask_share": SHARE, "mask_passes": passes, "masks_per_pass": at_once}
    unused = {"privacy": {"epsilon": 1.0}, "initial": {"prompts": ["a text"]}}
    config = resolve(
        settings={
            **unused,
            "variation": variation,
            "models": {"masked": name},
            "speed": {"device": "cpu"},
        }
    )
    model = MaskedLM(config.models.masked, config.speed.device, config.speed.dtype)
    vary = MaskFill(model, config.variation, config.speed.batch_size)

    def fill(texts: list[str], seed: int) -> list[str]:
        filled = vary([Candidate(text) for text in texts], [], np.random.default_rng(seed))
        return [text or "" for text in filled]

    return fill


@torch.inference_mode()
def fill_as_paper(texts: list[str], seed: int, passes: int, tokenizer: Any, model: Any) -> list[str]:
    """Fill one mask of every row per forward pass, on rows padded to the maximum."""
    torch.manual_seed(seed)
    encoded = tokenizer(texts, truncation=True, max_length=LENGTH, padding="max_length", return_tensors="pt")
    ids, attention = encoded["input_ids"], encoded["attention_mask"]
    special = torch.tensor(tokenizer.all_special_ids)
    for _ in range(passes):
        for start in range(0, len(texts), BATCH):
            refill(ids[start : start + BATCH], attention[start : start + BATCH], special, tokenizer, model)
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


def refill(ids: torch.Tensor, attention: torch.Tensor, special: torch.Tensor, tokenizer: Any, model: Any) -> None:
    """Hide 30 % of each row's ordinary tokens, at least one, and sample them anew in random order, in place."""
    ordinary = ~torch.isin(ids, special)
    counts = (SHARE * ordinary.sum(dim=1)).round().clamp(min=1).long()
    order = torch.where(ordinary, torch.rand(ids.shape), 2.0).argsort(dim=1)
    hidden = [order[row, :count] for row, count in enumerate(counts.tolist())]
    for row, columns in enumerate(hidden):
        ids[row, columns] = tokenizer.mask_token_id
    for step in range(int(counts.max())):
        logits = model(input_ids=ids, attention_mask=attention).logits
        rows = torch.tensor([row for row, columns in enumerate(hidden) if step < len(columns)])
        columns = torch.stack([hidden[row][step] for row in rows.tolist()])
        chances = torch.softmax(logits[rows, columns].float(), dim=1)
        ids[rows, columns] = torch.multinomial(chances, 1)[:, 0]


@torch.inference_mode()
def likelihood(texts: list[str], tokenizer: Any, model: Any) -> float:
    """Return the mean over the texts of the mean log-probability of each token when it alone is hidden."""
    rows, targets, owners = [], [], []
    for number, text in enumerate(texts):
        ids = tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"]
        for column in range(1, len(ids) - 1):
            rows.append([*ids[:column], tokenizer.mask_token_id, *ids[column + 1 :]])
            targets.append(ids[column])
            owners.append(number)
    scores = np.zeros(len(rows))
    for batch_rows in np.array_split(np.argsort([len(row) for row in rows]), max(1, len(rows) // 128)):
        batch = tokenizer.pad({"input_ids": [rows[row] for row in batch_rows]}, return_tensors="pt")
        logits = model(**batch).logits[batch["input_ids"] == tokenizer.mask_token_id].float()
        picked = torch.log_softmax(logits, dim=1)[range(len(batch_rows)), [targets[row] for row in batch_rows]]
        scores[batch_rows] = picked.numpy()
    sums = np.bincount(owners, scores, minlength=len(texts))
    counts = np.bincount(owners, minlength=len(texts))
    return float(np.mean(sums[counts > 0] / counts[counts > 0]))


def compare_times(ways: dict[str, Fill], texts: list[str], runs: int) -> None:
    """Print texts per second, and per second of processor time, which other processes disturb less: medians.

    The ways take turns, after a warm-up.
    """
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for fill in ways.values():
        fill(texts[:8], 0)
    for run in range(runs):
        for way, fill in ways.items():
            started, processor = time.perf_counter(), time.process_time()
            fill(texts, run)
            taken[way].append((time.perf_counter() - started, time.process_time() - processor))
            print(
                f"run {run + 1}, {way}: {taken[way][-1][0]:.2f} s, processor {taken[way][-1][1]:.2f} s", file=sys.stderr
            )
    base = [statistics.median(column) for column in zip(*taken["the paper's procedure"], strict=True)]
    for way, runs_of_it in taken.items():
        wall, processor = (statistics.median(column) for column in zip(*runs_of_it, strict=True))
        print(
            f"{way:<28} {len(texts) / wall:8.1f} texts/s {base[0] / wall:6.1f} times   "
            f"{len(texts) / processor:8.1f} texts per processor second {base[1] / processor:6.1f} times"
        )


def compare_likelihood(ways: dict[str, Fill], texts: list[str], runs: int, score: Callable[[list[str]], float]) -> None:
    """Print the mean pseudo-log-likelihood of the results, its standard error, and its difference from the paper's."""
    base = 0.0
    for way, fill in ways.items():
        scores = [score(fill(texts, run)) for run in range(runs)]
        mean, error = statistics.mean(scores), statistics.stdev(scores) / runs**0.5 if runs > 1 else float("nan")
        base = base or mean
        print(f"{way:<28} {mean:8.3f} nats per token (standard error {error:.3f})   {mean / base - 1:+.1%}", flush=True)


if __name__ == "__main__":
    main()
