"""Adapt a language model to examples: LoRA by peft, trained on answers to the prompts that it will be asked."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pretext.config.settings import Adapt, Models, Speed
from pretext.errors import ModelError, UsageError
from pretext.files import make_folder_atomically
from pretext.models.chat_format import encode_prompt
from pretext.models.precision import choose_dtype
from pretext.models.sources import explain_model_errors, resolve_generator
from pretext.progress import show_progress
from pretext.prompts import Prompt

if TYPE_CHECKING:
    import torch

RECORD_FILE = "adaptation.json"
_LEAST_EXAMPLES = 16
_WARM_UP = 0.1
_MAX_GRADIENT_NORM = 1.0
_log = logging.getLogger("pretext")


@dataclass(frozen=True)
class Example:
    """An answer, and the prompt that asks for it."""

    prompt: Prompt
    answer: str


@dataclass(frozen=True)
class Adaptation:
    """What an adapter is and how it came about.

    Attributes:
        generator: the model that it belongs to.
        losses: nats per token on the held-out examples, before training and after each pass.
        passes: after which the kept weights were taken.
    """

    generator: str
    losses: list[float]
    passes: int


def adapt(
    models: Models,
    settings: Adapt,
    speed: Speed,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    folder: Path,
    seed: int,
) -> Adaptation:
    """Train an adapter and save it in `folder`, unless it is there already.

    Training ends when the held-out loss rises; the weights of its least value are kept, those before training included.

    Args:
        models: the generator.
        settings: rank, passes and rate.
        speed: device.
        examples: to learn from.
        held_out: to stop by.
        folder: new, or finished before.
        seed: of the first weights and the order.

    Raises:
        ModelError: the generator cannot be loaded, or peft is not installed.
        UsageError: the examples are too few.
    """
    if (record := folder / RECORD_FILE).exists():
        return Adaptation(**json.loads(record.read_text(encoding="utf-8")))
    if len(examples) < _LEAST_EXAMPLES or not held_out:
        raise UsageError(
            f"There are only {len(examples)} texts to adapt the generator to; at least {_LEAST_EXAMPLES} are needed."
        )
    learner = _Learner(models.generator, settings, speed.device, seed)
    losses = learner.fit(
        [learner.encode(example) for example in examples], [learner.encode(example) for example in held_out]
    )
    result = Adaptation(models.generator, losses, int(np.argmin(losses)))
    with make_folder_atomically(folder) as fresh:
        learner.save(fresh)
        (fresh / RECORD_FILE).write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
    return result


@dataclass(frozen=True)
class _Row:
    ids: list[int]
    prompt: int


class _Learner:
    """A generator with adapters on all linear layers but the last."""

    def __init__(self, generator: str, settings: Adapt, device: str | None, seed: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            import peft
        except ImportError:
            raise ModelError(
                "Adapting the generator needs the package peft, which is not installed; run `pip install "
                "'pretext[lora]'`, or set adapt.method to none."
            ) from None
        self._settings = settings
        self._rng = np.random.default_rng([seed, 9])
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        with explain_model_errors(generator):
            source = resolve_generator(generator)
            self._tokenizer = AutoTokenizer.from_pretrained(source)
            model: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=torch.float32, device_map={"": self._device}
            )
        lora = peft.LoraConfig(
            task_type="CAUSAL_LM", r=settings.rank, lora_alpha=2 * settings.rank, target_modules="all-linear"
        )
        with torch.random.fork_rng(), warnings.catch_warnings():
            torch.manual_seed(seed)
            warnings.simplefilter("ignore", FutureWarning)  # peft uses what transformers will rename
            self._model: Any = peft.get_peft_model(model, lora)
        self._bfloat16 = choose_dtype(str(self._device)) == "bfloat16"

    def encode(self, example: Example) -> _Row:
        """Encode prompt, answer and end."""
        prompt = encode_prompt(example.prompt, self._tokenizer)
        answer = self._tokenizer.encode(example.answer, add_special_tokens=False, split_special_tokens=True)
        return _Row([*prompt, *answer, self._tokenizer.eos_token_id], len(prompt))

    def fit(self, rows: Sequence[_Row], held_out: Sequence[_Row]) -> list[float]:
        """Train; return the held-out loss before and after each pass. Ends with the weights of the least."""
        import torch

        weights = [value for value in self._model.parameters() if value.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=self._settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        passes, size = self._settings.passes, self._settings.batch_size
        steps = passes * math.ceil(len(rows) / size)
        losses, best, step = [self._measure(held_out)], self._copy(), 0
        with show_progress("Adapting the generator", passes * len(rows)) as advance:
            for _ in range(passes):
                for batch in _batches(rows, size, self._rng):
                    step += 1
                    share = step / steps
                    rate = self._settings.learning_rate * min(share / _WARM_UP, (1 - share) / (1 - _WARM_UP) + 1e-3)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    loss, count = self._loss(self._model.train(), batch)
                    (loss / count).backward()
                    torch.nn.utils.clip_grad_norm_(weights, _MAX_GRADIENT_NORM)
                    optimizer.step()
                    optimizer.zero_grad()
                    advance(len(batch))
                losses.append(self._measure(held_out))
                _log.info("Adaptation: held-out loss %.3f nats per token after %d passes.", losses[-1], len(losses) - 1)
                if losses[-1] > min(losses[:-1]):
                    break
                best = self._copy()
        self._model.load_state_dict(best, strict=False)
        return losses

    def save(self, folder: Path) -> None:
        """Save the adapter."""
        self._model.save_pretrained(str(folder))

    def _loss(self, model: Any, batch: Sequence[_Row]) -> tuple[torch.Tensor, int]:
        """Return the summed loss of the batch's answers, and their tokens."""
        import torch

        longest = max(len(row.ids) for row in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        counts = torch.zeros(len(batch), longest, dtype=torch.bool)
        mask = torch.zeros(len(batch), longest, dtype=torch.long)
        for number, row in enumerate(batch):
            ids[number, : len(row.ids)] = torch.tensor(row.ids)
            counts[number, row.prompt : len(row.ids)] = True
            mask[number, : len(row.ids)] = 1
        ids, counts, mask = (part.to(self._device) for part in (ids, counts, mask))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            hidden = model.base_model.model.model(input_ids=ids[:, :-1], attention_mask=mask[:, :-1], use_cache=False)
            logits = model.base_model.model.lm_head(hidden.last_hidden_state[counts[:, 1:]])
        targets = ids[:, 1:][counts[:, 1:]]
        return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum"), len(targets)

    def _measure(self, rows: Sequence[_Row]) -> float:
        import torch

        nats, count = 0.0, 0
        with torch.inference_mode():
            for batch in _batches(rows, self._settings.batch_size, None):
                loss, tokens = self._loss(self._model.eval(), batch)
                nats, count = nats + loss.item(), count + tokens
        return nats / count

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self._model.named_parameters() if value.requires_grad}


def _batches(rows: Sequence[_Row], size: int, rng: np.random.Generator | None) -> Iterator[list[_Row]]:
    """Yield all rows in batches of similar length, in random order with `rng`."""
    order = np.arange(len(rows)) if rng is None else rng.permutation(len(rows))
    stretch = 8 * size
    for start in range(0, len(order), stretch):
        part = sorted((rows[row] for row in order[start : start + stretch]), key=lambda row: len(row.ids))
        batches = [part[first : first + size] for first in range(0, len(part), size)]
        for number in range(len(batches)) if rng is None else rng.permutation(len(batches)):
            yield batches[number]
