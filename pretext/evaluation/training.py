"""How a causal language model learns from rows of token ids, and what it predicts for them."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pretext.errors import UsageError
from pretext.models.precision import preferred_dtype

if TYPE_CHECKING:
    import torch

_BATCHES_PER_STRETCH = 50  # batches whose texts are sorted by length together
_MAX_GRADIENT_NORM = 1.0

TokenRows = Sequence[Sequence[int]]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Training:
    """How a student learns: AdamW, warmed up, then brought down linearly to zero.

    Attributes:
        max_tokens: texts are cut to so many tokens, start and end included; public, the same for all texts.
        tokens: learned from in all, repetitions counted.
        batch_tokens: of a step, padding included.
        rate: highest learning rate.
        warm_up: share of the tokens over which the rate rises.
        checks: how often the validation texts are looked at; the best weights of these times are kept.
        patience: it stops after so many checks without a better one; with few it may stop while the rate is high,
            though it would have gained when the rate fell.
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
    """Logits, shape (predicted tokens, vocabulary), float32, and the tokens that did come, for rows of ids.

    Rows are padded on the right; all positions but those of padding are given, row after row.
    """
    import torch

    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in rows])
    there = torch.arange(1, longest) < lengths[:, None]
    device = next(module.parameters()).device
    ids, there = ids.to(device), there.to(device)
    logits = module(input_ids=ids[:, :-1], use_cache=False).logits
    return logits[there].float(), ids[:, 1:][there]


def make_batches(rows: TokenRows, tokens: int, rng: np.random.Generator | None = None) -> Iterator[list[Sequence[int]]]:
    """All rows once, in batches of like length with at most `tokens` places each, or one row.

    With `rng` in random order: within a stretch of some batches rows are sorted, and the stretches and the batches in
    them are shuffled. Rows that predict nothing (shorter than two ids) are left out.
    """
    usable = [row for row in rows if len(row) > 1]
    if rng is None:
        yield from _cut_batches(sorted(usable, key=len), tokens)
        return
    order = rng.permutation(len(usable))
    held = max(1, _BATCHES_PER_STRETCH * tokens * len(usable) // max(1, sum(map(len, usable))))
    for start in range(0, len(order), held):
        cuts = list(_cut_batches(sorted((usable[row] for row in order[start : start + held]), key=len), tokens))
        for number in rng.permutation(len(cuts)):
            yield cuts[number]


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
    """Learn; with texts held out, end with the weights that did best on them, those of the beginning included."""
    lowest = _measure_loss(learner, held_out, plan.batch_tokens) if held_out else math.inf
    best, worse, checked = _copy_weights(learner), 0, 0
    for done in _train_steps(learner, rows, plan, rng, advance):
        if not held_out or done < (checked + 1) * plan.tokens / plan.checks:
            continue
        checked = int(done * plan.checks / plan.tokens)
        loss = _measure_loss(learner, held_out, plan.batch_tokens)
        if loss < lowest:
            lowest, best, worse = loss, _copy_weights(learner), 0
        else:
            worse += 1
            if worse == plan.patience:
                break
    if held_out:
        learner.load_state_dict(best, strict=False)


def _train_steps(
    learner: Any, rows: TokenRows, plan: Training, rng: np.random.Generator, advance: Advance
) -> Iterator[int]:
    """Take a step and tell how many tokens were learned from so far, until it is enough."""
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
    """Nats per token, in the dtype of training."""
    import torch

    nats, count = 0.0, 0
    with torch.inference_mode(), _autocast(module):
        for batch in make_batches(rows, tokens):
            logits, targets = predict_tokens(module.eval(), batch)
            nats += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
            count += len(targets)
    return nats / count


def _autocast(module: Any) -> Any:
    """bfloat16 where the device is fast at it, otherwise as it is."""
    import torch

    device = next(module.parameters()).device.type
    return torch.autocast(device, torch.bfloat16, enabled=preferred_dtype(device) == "bfloat16")


def make_learner(module: torch.nn.Module, lora_rank: int | None) -> Any:
    """A copy that learns: whole, or with adapters on all linear layers but the last."""
    learner = copy.deepcopy(module)
    if lora_rank is None:
        return learner.requires_grad_()
    try:
        import peft
    except ImportError:
        raise UsageError("A student with adapters needs peft; run `pip install 'pretext[lora]'`.") from None
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM", r=lora_rank, lora_alpha=2 * lora_rank, target_modules="all-linear"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        return peft.get_peft_model(learner, settings)


def merge_adapters(learner: Any) -> torch.nn.Module:
    """What learned, as a module like the one it was made of."""
    module: torch.nn.Module = learner.merge_and_unload() if hasattr(learner, "merge_and_unload") else learner
    return module


def _copy_weights(learner: Any) -> dict[str, torch.Tensor]:
    """A copy of the weights that learn."""
    return {name: value.detach().clone() for name, value in learner.named_parameters() if value.requires_grad}
