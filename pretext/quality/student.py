"""Students: small language models that learn from texts and are scored on others.

A text is read on its own: a start token, its tokens, an end token, and never a neighbour's. Batches hold texts of like
length, padded on the right, where a causal model does not look; so the same text has the same loss in any company.

A student is a value. `train` gives a new one and leaves the old one as it is. Its parts are open to whoever trains it
otherwise, for example by federated learning: `module` (the torch module, float32), `encode` (texts to rows of ids),
`predictions` (a batch's logits and targets, with gradient), `batches` and `with_weights`.

What comes out of a student that saw private text, and any score of private text, is not covered by the guarantee.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pretext.errors import ModelError, UsageError
from pretext.models import cache_folder, check_device, loading, preferred_dtype, resolve_generator
from pretext.progress import progress

if TYPE_CHECKING:
    import torch

TINY = "tiny"
_STRETCH = 50  # batches whose texts are sorted by length together
_LOGITS = 2**25  # numbers in the logits of a scored batch, at most
_CLIP = 1.0

Rows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Score:
    """How well texts were predicted, over all their tokens alike, end tokens included.

    Attributes:
        top1, top3, top5: share of tokens among the one, three or five most probable; ties count against it.
        cross_entropy: nats per token.
        bits_per_byte: of UTF-8; tells students with different tokenizers apart, as long as few texts are cut.
        tokens: how many were predicted.
    """

    top1: float
    top3: float
    top5: float
    cross_entropy: float
    bits_per_byte: float
    tokens: int


class Student(Protocol):
    """Anything that learns to predict texts."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    @property
    def longest(self) -> int:
        """Texts are cut to so many tokens, learned and scored alike."""
        ...

    def train(
        self,
        texts: Sequence[str],
        *,
        validation: Sequence[str],
        seed: int,
        tokens: int | None = None,
        announce: str | None = None,
    ) -> Student:
        """A new student that learned from `texts`; the same for the same seed on the same machine.

        Args:
            texts: what is learned.
            validation: texts that tell when to stop; never the texts that are scored later. Without any, it learns on.
            seed: for the order of the texts and whatever else the model draws.
            tokens: to learn from at most, repetitions counted; default: the student's own setting.
            announce: progress is shown under this name.

        Raises:
            UsageError: there is nothing to learn from.
        """
        ...

    def score(self, texts: Sequence[str]) -> Score:
        """How well it predicts the texts. Raises UsageError if there are none."""
        ...


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
        patience: it stops after so many checks without a better one.
        lora_rank: train low-rank adapters of this rank (package peft), merged at the end, instead of all weights.
    """

    max_tokens: int = 128
    tokens: int = 200_000
    batch_tokens: int = 1024
    rate: float = 1e-3
    warm_up: float = 0.05
    checks: int = 10
    patience: int = 3
    lora_rank: int | None = None


@dataclass(frozen=True)
class CausalStudent:
    """A causal language model of transformers."""

    name: str
    module: torch.nn.Module
    tokenizer: Any
    training: Training = Training()

    def train(
        self,
        texts: Sequence[str],
        *,
        validation: Sequence[str],
        seed: int,
        tokens: int | None = None,
        announce: str | None = None,
    ) -> CausalStudent:
        """See `Student`."""
        import torch

        rows, held_out = self.encode(texts), self.encode(validation)
        if not rows:
            raise UsageError("There is no text to train the student on; give at least one.")
        plan = self.training if tokens is None else replace(self.training, tokens=tokens)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), progress(announce, plan.tokens) as advance:
            torch.manual_seed(seed)
            learner = _learner(self.module, plan.lora_rank)
            _fit(learner, rows, held_out, plan, np.random.default_rng(seed), advance)
        return replace(self, module=_merged(learner).eval())

    def score(self, texts: Sequence[str]) -> Score:
        """See `Student`; in float32, whatever the student learned in."""
        import torch

        if not texts:
            raise UsageError("There is no text to score the student on; give at least one.")
        read = self._tokens(texts, return_offsets_mapping=True)
        rows = self._rows(read["input_ids"])
        size = sum(
            len(text[: places[-1][1]].encode(errors="replace"))
            for text, places in zip(texts, read["offset_mapping"], strict=True)
            if places
        )
        ranks: list[torch.Tensor] = []
        nats = 0.0
        with torch.inference_mode():
            for batch in batches(rows, _scored_at_once(self.module)):
                logits, targets = predictions(self.module, batch)
                nats += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
                ranks.append((logits >= logits.gather(1, targets[:, None])).sum(1))
        rank = torch.cat(ranks)
        top1, top3, top5 = ((rank <= k).double().mean().item() for k in (1, 3, 5))
        bits = nats / math.log(2) / size if size else math.nan
        return Score(top1, top3, top5, nats / len(rank), bits, len(rank))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text with a start and an end token, cut to `max_tokens`; a text that is cut has no end."""
        return self._rows(self._tokens(texts)["input_ids"]) if texts else []

    def with_weights(self, weights: Mapping[str, torch.Tensor]) -> CausalStudent:
        """A copy with these weights (by the names of `module.state_dict()`, all or some) in place of its own."""
        module = copy.deepcopy(self.module)
        module.load_state_dict(dict(weights), strict=False)
        return replace(self, module=module)

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next(self.module.parameters()).device

    @property
    def longest(self) -> int:
        """Tokens of a text, start and end included: the setting, or what the model can see."""
        limit = getattr(self.module.config, "max_position_embeddings", None)
        return min(self.training.max_tokens, limit or self.training.max_tokens)

    def _tokens(self, texts: Sequence[str], **more: bool) -> Any:
        """The tokens that fit behind a start token, and what else is asked for."""
        clean = [text.encode(errors="replace").decode() for text in texts]  # half a surrogate pair stops the tokenizer
        return self.tokenizer(
            clean,
            add_special_tokens=False,
            split_special_tokens=True,  # what looks like an end token in a text is text
            truncation=True,
            max_length=self.longest - 1,
            **more,
        )

    def _rows(self, ids: Rows) -> list[list[int]]:
        end = self.tokenizer.eos_token_id
        start = end if self.tokenizer.bos_token_id is None else self.tokenizer.bos_token_id
        return [[start, *row, end][: self.longest] for row in ids]


def open_student(
    name: str, *, cache: Path | None = None, device: str | None = None, training: Training | None = None
) -> CausalStudent:
    """A student before it learned anything of ours.

    Args:
        name: `tiny` (about 4 million parameters, made once by scripts/pretrain_tiny.py from public texts), `embedded`
            (SmolLM2-135M-Instruct out of its package), or a causal language model by folder or Hugging Face name.
        cache: folder where `tiny` lies; default: `pretext.models.cache_folder`.
        device: `cpu`, `cuda`, ...; default: the best there is.
        training: how it learns; default: as suits `tiny`, or a pretrained model.

    Raises:
        ModelError: the model cannot be found or loaded; for `tiny` it says how to make it.
        UsageError: the device is not there.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = tiny_folder(cache) if name == TINY else resolve_generator(name)
    if name == TINY and not (tiny_folder(cache) / "config.json").exists():
        raise ModelError(
            f"The student `tiny` is not in {source} yet; make it once, in about ten minutes, with `python "
            "scripts/pretrain_tiny.py FILES...` of public text, or name another student, such as embedded."
        )
    if device is not None:
        check_device(device)
    with loading(name):
        tokenizer = AutoTokenizer.from_pretrained(source)
        module: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise ModelError(f"The model {name!r} has no fast tokenizer with an end token; name another student.")
    chosen = training or (Training() if name == TINY else Training(rate=5e-5))
    placed = module.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    return CausalStudent(name, placed, tokenizer, chosen)


def tiny_folder(cache: Path | None = None) -> Path:
    """Where the pretrained `tiny` lies or is to lie."""
    return (cache or cache_folder()) / "tiny-student-1"


def predictions(module: torch.nn.Module, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
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


def batches(rows: Rows, tokens: int, rng: np.random.Generator | None = None) -> Iterator[list[Sequence[int]]]:
    """All rows once, in batches of like length with at most `tokens` places each, or one row.

    With `rng` in random order: within a stretch of some batches rows are sorted, and the stretches and the batches in
    them are shuffled. Rows that predict nothing (shorter than two ids) are left out.
    """
    usable = [row for row in rows if len(row) > 1]
    if rng is None:
        yield from _cut(sorted(usable, key=len), tokens)
        return
    order = rng.permutation(len(usable))
    held = max(1, _STRETCH * tokens * len(usable) // max(1, sum(map(len, usable))))
    for start in range(0, len(order), held):
        cuts = list(_cut(sorted((usable[row] for row in order[start : start + held]), key=len), tokens))
        for number in rng.permutation(len(cuts)):
            yield cuts[number]


def _cut(ordered: Rows, tokens: int) -> Iterator[list[Sequence[int]]]:
    batch: list[Sequence[int]] = []
    for row in ordered:
        if batch and (len(batch) + 1) * len(row) > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _fit(learner: Any, rows: Rows, held_out: Rows, plan: Training, rng: np.random.Generator, advance: Any) -> None:
    """Learn; with texts held out, end with the weights that did best on them, those of the beginning included."""
    lowest = _loss(learner, held_out, plan.batch_tokens) if held_out else math.inf
    best, worse, checked = _learned(learner), 0, 0
    for done in _steps(learner, rows, plan, rng, advance):
        if not held_out or done < (checked + 1) * plan.tokens / plan.checks:
            continue
        checked = int(done * plan.checks / plan.tokens)
        loss = _loss(learner, held_out, plan.batch_tokens)
        if loss < lowest:
            lowest, best, worse = loss, _learned(learner), 0
        else:
            worse += 1
            if worse == plan.patience:
                break
    if held_out:
        learner.load_state_dict(best, strict=False)


def _steps(learner: Any, rows: Rows, plan: Training, rng: np.random.Generator, advance: Any) -> Iterator[int]:
    """Take a step and tell how many tokens were learned from so far, until it is enough."""
    import torch

    weights = [value for value in learner.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)
    done = 0
    while done < plan.tokens:
        for batch in batches(rows, plan.batch_tokens, rng):
            size = sum(len(row) - 1 for row in batch)
            middle = (done + size / 2) / plan.tokens
            for group in optimizer.param_groups:
                group["lr"] = plan.rate * max(0.0, min(middle / plan.warm_up, (1 - middle) / (1 - plan.warm_up)))
            with _fast(learner):
                logits, targets = predictions(learner.train(), batch)
            torch.nn.functional.cross_entropy(logits, targets).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, _CLIP)
            optimizer.step()
            optimizer.zero_grad()
            done += size
            advance(size)
            yield done
            if done >= plan.tokens:
                return


def _loss(module: Any, rows: Rows, tokens: int) -> float:
    """Nats per token, in the dtype of training."""
    import torch

    nats, count = 0.0, 0
    with torch.inference_mode(), _fast(module):
        for batch in batches(rows, tokens):
            logits, targets = predictions(module.eval(), batch)
            nats += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
            count += len(targets)
    return nats / count


def _fast(module: Any) -> Any:
    """bfloat16 where the device is fast at it, otherwise as it is."""
    import torch

    device = next(module.parameters()).device.type
    return torch.autocast(device, torch.bfloat16, enabled=preferred_dtype(device) == "bfloat16")


def _learner(module: torch.nn.Module, lora_rank: int | None) -> Any:
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


def _merged(learner: Any) -> torch.nn.Module:
    merged: torch.nn.Module = learner.merge_and_unload() if hasattr(learner, "merge_and_unload") else learner
    return merged


def _learned(learner: Any) -> dict[str, torch.Tensor]:
    """A copy of the weights that learn."""
    return {name: value.detach().clone() for name, value in learner.named_parameters() if value.requires_grad}


def _scored_at_once(module: Any) -> int:
    return max(256, min(4096, _LOGITS // int(module.config.vocab_size)))
