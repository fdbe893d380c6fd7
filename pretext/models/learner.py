"""Train a generator on answers: prompts and answers as token ids, batches, steps, losses."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pretext.config.settings import Adapt
from pretext.errors import ModelError, UsageError
from pretext.models.chat_format import encode_answer, encode_prompt
from pretext.models.engines.transformers import load_causal_model, resolve_device
from pretext.models.low_rank import attach_adapter, save_adapter
from pretext.models.precision import choose_dtype, find_free_memory, read_layer_sizes
from pretext.models.sources import explain_model_errors, is_quantized
from pretext.prompts import Prompt

if TYPE_CHECKING:
    import torch

_WARM_UP = 0.1
_MAX_GRADIENT_NORM = 1.0
_BATCHES_PER_STRETCH = 8  # the rows of so many batches are sorted by length together
_PLACES = {"cpu": 512, "cuda": 8192}  # of a forward pass: about 2 MB each for a model of 135 million weights
_FULL_BYTES = 16  # per weight, in float32: the weight, its gradient and two moments


@dataclass(frozen=True)
class Row:
    """Token ids of a prompt and of the answer with its end."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class Learner:
    """A generator in training: all its weights, or adapters on its linear layers.

    The prompts of a batch that are alike are read once, as the engines read a prompt before they continue it; the loss
    counts the answers' tokens alone. Where bfloat16 is fast, products are computed in it; trained weights are float32.

    Args:
        generator: as in `pretext.models.sources.resolve_generator`.
        settings: method, rank, learning rate, batch size and passes.
        device: default: the best available.
        dtype: default: what the device computes fastest.
        seed: of the adapters' first weights and the order of the rows.

    Raises:
        ModelError: the generator cannot be loaded, is quantized, or does not fit into memory for training.
    """

    def __init__(self, generator: str, settings: Adapt, device: str | None, dtype: str | None, seed: int) -> None:
        import torch

        self._settings, self._seed, self._generator = settings, seed, generator
        self._device = resolve_device(device)
        with explain_model_errors(generator):
            self._tokenizer, model = load_causal_model(generator, self._device, torch.float32)
        if is_quantized(model.config):
            raise quantized_error(generator)
        self._context = getattr(model.config.get_text_config(), "max_position_embeddings", 2**31)
        self._parameters = frozenset(inspect.signature(model.forward).parameters)
        dtype = dtype or choose_dtype(str(self._device), *read_layer_sizes(model.config))
        self._most_places = _PLACES.get(self._device.type, _PLACES["cpu"])
        self._bfloat16 = dtype == "bfloat16"  # float16 would need a scaled loss
        with torch.random.fork_rng():
            torch.manual_seed(seed % 2**63)
            self._model: Any = self._prepare(model)
        self._optimizer = torch.optim.AdamW(
            self.trained_weights, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
        )

    @property
    def size(self) -> int:
        """Number of all weights."""
        return sum(weight.numel() for weight in self._model.parameters())

    @property
    def trained_weights(self) -> list[torch.nn.Parameter]:
        """The weights that training changes, in a fixed order."""
        return [weight for weight in self._model.parameters() if weight.requires_grad]

    def encode(self, prompt: Prompt, answer: str) -> Row | None:
        """Encode as the engines do; None for a blank answer, or one that does not fit into the context."""
        row = Row(
            tuple(encode_prompt(prompt, self._tokenizer)), tuple(encode_answer(answer, prompt.chat, self._tokenizer))
        )
        return row if answer.strip() and len(row.prompt) + len(row.answer) <= self._context else None

    def measure(self, rows: Sequence[Row]) -> float:
        """Return the loss in nats per token of the answers."""
        import torch

        nats, count = 0.0, 0
        with torch.inference_mode():
            for batch in make_batches(rows, self._settings.batch_size):
                for part in cut_batch(batch, self._most_places):
                    loss, tokens = self._sum_losses(self._model.eval(), part)
                    nats, count = nats + loss.item(), count + tokens
        return nats / count

    def differentiate(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Return the gradient of the rows' loss in nats per token by the trained weights, which stay as they are."""
        import torch

        tokens, weights = sum(len(row.answer) for row in rows), self.trained_weights
        total = [torch.zeros_like(weight) for weight in weights]
        for part in cut_batch(list(rows), self._most_places):
            loss, _ = self._sum_losses(self._model.train(), part)
            for so_far, gradient in zip(total, torch.autograd.grad(loss / tokens, weights), strict=True):
                so_far += gradient
        return total

    def train_pass(self, number: int, rows: Sequence[Row], advance: Callable[[int], None]) -> float:
        """Take one pass over the rows, in an order of its own; return the mean loss in nats per token.

        Args:
            number: of the pass, from 0; the learning rate follows from it.
            rows: to learn from, the same in every pass.
            advance: is called with the number of rows of each step.
        """
        import torch

        steps = math.ceil(len(rows) / self._settings.batch_size)
        batches = make_batches(rows, self._settings.batch_size, np.random.default_rng([self._seed, number]))
        nats, count = 0.0, 0
        with torch.random.fork_rng():
            torch.manual_seed((self._seed + number) % 2**63)  # of the model's own dropout
            for step, batch in enumerate(batches, start=number * steps):
                self._set_rate((step + 0.5) / (steps * self._settings.passes))
                tokens = sum(len(row.answer) for row in batch)
                loss = 0.0
                for part in cut_batch(batch, self._most_places):
                    part_loss, _ = self._sum_losses(self._model.train(), part)
                    (part_loss / tokens).backward()
                    loss += part_loss.item()
                torch.nn.utils.clip_grad_norm_(self._optimizer.param_groups[0]["params"], _MAX_GRADIENT_NORM)
                self._optimizer.step()
                self._optimizer.zero_grad()
                nats, count = nats + loss, count + tokens
                advance(len(batch))
        return nats / count

    def save(self, folder: Path) -> None:
        """Save what an engine loads: the adapter, or the whole model with its tokenizer."""
        if self._settings.method == "lora":
            save_adapter(self._model, folder, self._generator)
        else:
            self._model.save_pretrained(folder)
            self._tokenizer.save_pretrained(folder)

    def save_state(self, path: Path) -> None:
        """Save the trained weights and the optimizer, to go on from here."""
        import torch

        weights = {name: weight for name, weight in self._model.named_parameters() if weight.requires_grad}
        torch.save({"weights": weights, "optimizer": self._optimizer.state_dict()}, path)

    def load_state(self, path: Path) -> None:
        """Go on from a saved state."""
        import torch

        state = torch.load(path, map_location=self._device, weights_only=True)
        self._model.load_state_dict(state["weights"], strict=False)
        self._optimizer.load_state_dict(state["optimizer"])

    def _prepare(self, model: Any) -> Any:
        if self._settings.method == "lora":
            return attach_adapter(model, self._settings.rank)
        _check_full_memory(self._generator, model, self._device)
        return model.requires_grad_()

    def _set_rate(self, share: float) -> None:
        """Let the learning rate rise over the first steps, and then fall linearly to zero; `share` of all steps."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * min(share / _WARM_UP, (1 - share) / (1 - _WARM_UP))

    def _sum_losses(self, model: Any, batch: Sequence[Row]) -> tuple[torch.Tensor, int]:
        """Return the summed loss of the answers, and how many tokens they have."""
        import torch

        prompts = list(dict.fromkeys(row.prompt for row in batch))
        places = torch.tensor([prompts.index(row.prompt) for row in batch], device=self._device)
        ids, mask = self._pad(prompts, left=True)
        answers, is_token = self._pad([row.answer for row in batch])
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            read = self._forward(model, ids, mask, (mask.cumsum(1) - 1).clamp(min=0), logits_to_keep=1)
            cache = read.past_key_values
            cache.batch_select_indices(places)
            positions = mask.sum(1)[places, None] + torch.arange(answers.shape[1] - 1, device=self._device)
            both = torch.cat([mask[places], is_token[:, :-1]], dim=1)
            later = self._forward(model, answers[:, :-1], both, positions, past_key_values=cache).logits
        logits = torch.cat([read.logits[places, -1:], later], dim=1)[is_token.bool()].float()
        targets = answers[is_token.bool()]
        return torch.nn.functional.cross_entropy(logits, targets, reduction="sum"), len(targets)

    def _forward(self, model: Any, ids: Any, mask: Any, positions: Any, **inputs: Any) -> Any:
        """Run the model; not every architecture takes positions, or can leave out a prompt's logits."""
        inputs |= {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "use_cache": True}
        return model(**{name: value for name, value in inputs.items() if name in self._parameters})

    def _pad(self, rows: Sequence[tuple[int, ...]], *, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Pad rows of ids; return ids and mask, both of shape (rows, longest)."""
        import torch

        longest = max(map(len, rows))
        ids, mask = [], []
        for row in rows:
            padding = [0] * (longest - len(row))  # the mask hides it, so any token will do
            ones = [1] * len(row)
            ids.append([*padding, *row] if left else [*row, *padding])
            mask.append([*padding, *ones] if left else [*ones, *padding])
        return torch.tensor(ids, device=self._device), torch.tensor(mask, device=self._device)


def quantized_error(generator: str) -> ModelError:
    """Say that a generator's weights cannot be trained."""
    return ModelError(
        f"The generator {generator!r} has quantized weights, which cannot be trained; name the model that it was made "
        "from, or set adapt.method to none."
    )


def make_batches(rows: Sequence[Row], size: int, rng: np.random.Generator | None = None) -> Iterator[list[Row]]:
    """Yield all rows once in batches of at most `size` rows, ceil(rows / size) in all, of similar prompts and lengths.

    With `rng` in random order: rows are sorted within stretches of some batches, whose batches are shuffled.
    """
    order = range(len(rows)) if rng is None else rng.permutation(len(rows)).tolist()
    stretch = len(rows) if rng is None else _BATCHES_PER_STRETCH * size
    for start in range(0, len(rows), stretch):
        part = sorted((rows[row] for row in order[start : start + stretch]), key=_sorting_key)
        batches = [part[first : first + size] for first in range(0, len(part), size)]
        for number in range(len(batches)) if rng is None else rng.permutation(len(batches)).tolist():
            yield batches[number]


def cut_batch(batch: Sequence[Row], places: int) -> Iterator[list[Row]]:
    """Cut a batch into parts with at most `places` tokens of answers each, padding included, or a single row.

    The sum of their gradients is the gradient of the batch; less memory is needed at a time.
    """
    part: list[Row] = []
    for row in batch:
        if part and (len(part) + 1) * max(len(other.answer) for other in (*part, row)) > places:
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _sorting_key(row: Row) -> tuple[int, tuple[int, ...], int]:
    return len(row.prompt), row.prompt, len(row.answer)


def _check_full_memory(name: str, model: Any, device: torch.device) -> None:
    """Raise UsageError unless training all weights fits into the memory, before the system kills the process."""
    free = find_free_memory(device)
    weights = sum(weight.numel() for weight in model.parameters())
    if free is not None and (_FULL_BYTES - 4) * weights > free:  # the weights themselves are loaded already
        raise UsageError(
            f"Training all weights of the generator {name!r} takes {_FULL_BYTES * weights / 2**30:.1f} GiB on "
            f"{device}, more than is free; set adapt.method to lora."
        )
