"""Training of a causal language model on rows of token ids, and its predictions for them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pretext.models.low_rank import attach_adapter, merge_adapter
from pretext.models.precision import choose_dtype

if TYPE_CHECKING:
    import torch

_BATCHES_PER_STRETCH = 50  # the texts of so many batches are sorted by length together
_MAX_GRADIENT_NORM = 1.0

TokenRows = Sequence[Sequence[int]]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Training:
    """Settings of AdamW, whose learning rate rises during a warm-up and then falls linearly to zero.

    Attributes:
        max_tokens: longer texts are cut to so many tokens, start and end included; public, the same for all texts.
        tokens: to learn from in all, repetitions counted.
        batch_tokens: of a step, padding included.
        rate: highest learning rate.
        warm_up: share of the tokens over which the rate rises.
        checks: how often the loss on the validation texts is measured; the best of these weights are the result.
        patience: stop after so many checks without a better one; a small value may stop while the rate is high, though
            the loss would have fallen with the rate.
        lora_rank: train low-rank adapters of this rank (package peft), merged at the end, instead of all weights.
    """

    max_tokens: int = 128
    tokens: int = 200_000
    batch_tokens: int = 1024
    rate: float = 1e-3
    warm_up: float = 0.05
    checks: int = 10
    patience: int = 6
    lora_rank: int | None = None


def predict_tokens(module: torch.nn.Module, rows: TokenRows) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits, shape (predicted tokens, vocabulary), float32, and the true tokens, for rows of ids.

    Rows are padded on the right; the result holds all positions but those of padding, row after row.
    """
    import torch

    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in rows])
    is_token = torch.arange(1, longest) < lengths[:, None]
    device = next(module.parameters()).device
    ids, is_token = ids.to(device), is_token.to(device)
    logits = module(input_ids=ids[:, :-1], use_cache=False).logits
    return logits[is_token].float(), ids[:, 1:][is_token]


def make_batches(rows: TokenRows, tokens: int, rng: np.random.Generator | None = None) -> Iterator[list[Sequence[int]]]:
    """Yield all rows once, in batches of similar length with at most `tokens` places each, or a single row.

    With `rng` in random order: rows are sorted within stretches of some batches, and the stretches and the batches in
    them are shuffled. Rows that predict nothing (shorter than two ids) are left out.
    """
    usable = [row for row in rows if len(row) > 1]
    if rng is None:
        yield from _cut_batches(sorted(usable, key=len), tokens)
        return
    order = rng.permutation(len(usable))
    stretch = max(1, _BATCHES_PER_STRETCH * tokens * len(usable) // max(1, sum(map(len, usable))))
    for start in range(0, len(order), stretch):
        batches = list(_cut_batches(sorted((usable[row] for row in order[start : start + stretch]), key=len), tokens))
        for number in rng.permutation(len(batches)):
            yield batches[number]


def _cut_batches(rows: TokenRows, tokens: int) -> Iterator[list[Sequence[int]]]:
    batch: list[Sequence[int]] = []
    for row in rows:
        if batch and (len(batch) + 1) * len(row) > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def fit_learner(
    learner: Any, rows: TokenRows, held_out: TokenRows, plan: Training, rng: np.random.Generator, advance: Advance
) -> None:
    """Train the learner; with held-out rows, end with the weights of least loss on them, the initial ones included."""
    lowest = _measure_loss(learner, held_out, plan.batch_tokens) if held_out else math.inf
    best, failures, checks = _copy_weights(learner), 0, 0
    for done in _train_steps(learner, rows, plan, rng, advance):
        if not held_out or done < (checks + 1) * plan.tokens / plan.checks:
            continue
        checks = int(done * plan.checks / plan.tokens)
        loss = _measure_loss(learner, held_out, plan.batch_tokens)
        if loss < lowest:
            lowest, best, failures = loss, _copy_weights(learner), 0
        else:
            failures += 1
            if failures == plan.patience:
                break
    if held_out:
        learner.load_state_dict(best, strict=False)


def _train_steps(
    learner: Any, rows: TokenRows, plan: Training, rng: np.random.Generator, advance: Advance
) -> Iterator[int]:
    """Take one step at a time, and yield how many tokens were learned from so far, until these are enough."""
    import torch

    weights = [value for value in learner.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)
    done = 0
    while done < plan.tokens:
        for batch in make_batches(rows, plan.batch_tokens, rng):
            size = sum(len(row) - 1 for row in batch)
            middle = (done + size / 2) / plan.tokens
            for group in optimizer.param_groups:
                group["lr"] = plan.rate * max(0.0, min(middle / plan.warm_up, (1 - middle) / (1 - plan.warm_up)))
            with _autocast(learner):
                logits, targets = predict_tokens(learner.train(), batch)
            torch.nn.functional.cross_entropy(logits, targets).backward()
            torch.nn.utils.clip_grad_norm_(weights, _MAX_GRADIENT_NORM)
            optimizer.step()
            optimizer.zero_grad()
            done += size
            advance(size)
            yield done
            if done >= plan.tokens:
                return


def _measure_loss(module: Any, rows: TokenRows, tokens: int) -> float:
    """Return nats per token, in the dtype of training."""
    import torch

    nats, count = 0.0, 0
    with torch.inference_mode(), _autocast(module):
        for batch in make_batches(rows, tokens):
            logits, targets = predict_tokens(module.eval(), batch)
            nats += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
            count += len(targets)
    return nats / count


def _autocast(module: Any) -> Any:
    """Compute in bfloat16 where the device is fast at it, otherwise in the module's own dtype."""
    import torch

    device = next(module.parameters()).device.type
    return torch.autocast(device, torch.bfloat16, enabled=choose_dtype(device) == "bfloat16")


def make_learner(module: torch.nn.Module, lora_rank: int | None) -> Any:
    """Copy a module to train it: whole, or with adapters on all linear layers but the last."""
    learner = copy.deepcopy(module)
    if lora_rank is None:
        return learner.requires_grad_()
    return attach_adapter(learner, lora_rank)


def merge_adapters(learner: Any) -> torch.nn.Module:
    """Return the trained module, of the same kind as the one that `make_learner` copied."""
    module: torch.nn.Module = merge_adapter(learner) if hasattr(learner, "merge_and_unload") else learner
    return module


def _copy_weights(learner: Any) -> dict[str, torch.Tensor]:
    """Copy the weights that are trained."""
    return {name: value.detach().clone() for name, value in learner.named_parameters() if value.requires_grad}
