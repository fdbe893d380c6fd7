"""Students: small language models that learn from texts and are scored on others.

A text is read on its own: a start token, its tokens, an end token, and never a neighbor's. Batches hold texts of like
length, padded on the right, where a causal model does not look; so the same text has the same loss in any company.

A student is a value. `train` gives a new one and leaves the old one as it is. Its parts are open to whoever trains it
otherwise, for example by federated learning: `module` (the torch module, float32), `encode` (texts to rows of ids),
`predictions` (a batch's logits and targets, with gradient), `batches` and `with_weights`.

What comes out of a student that saw private text, and any score of private text, is not covered by the guarantee.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pretext.errors import ModelError, UsageError
from pretext.evaluation.training import (
    TokenRows,
    Training,
    fit_learner,
    make_batches,
    make_learner,
    merge_adapters,
    predict_tokens,
)
from pretext.home import model_cache_folder
from pretext.models.precision import check_device
from pretext.models.sources import explain_model_errors, resolve_generator
from pretext.progress import show_progress

if TYPE_CHECKING:
    import torch

__all__ = [
    "TINY",
    "CausalStudent",
    "Score",
    "Student",
    "Training",
    "make_batches",
    "open_student",
    "predict_tokens",
    "tiny_folder",
]

TINY = "tiny"
_MAX_LOGITS = 2**25  # numbers in the logits of a scored batch, at most


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
        """A new student that learned from `texts`; the same for the same seed, in one process.

        The dtype is chosen by a short measurement: another process may choose another one.

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
class CausalStudent:
    """A causal language model of transformers.

    Attributes:
        module: the model, float32; its output has `logits`.
        tokenizer: a fast one.
        training: how it learns.
    """

    name: str
    module: torch.nn.Module = field(repr=False)
    tokenizer: Any = field(repr=False)
    training: Training = field(default_factory=Training)

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
        with torch.random.fork_rng(devices), show_progress(announce, plan.tokens) as advance:
            torch.manual_seed(seed)
            learner = make_learner(self.module, plan.lora_rank)
            fit_learner(learner, rows, held_out, plan, np.random.default_rng(seed), advance)
        return replace(self, module=merge_adapters(learner).eval())

    def score(self, texts: Sequence[str]) -> Score:
        """See `Student`; in float32, whatever the student learned in."""
        import torch

        if not texts:
            raise UsageError("There is no text to score the student on; give at least one.")
        read = self._tokenize(texts, return_offsets_mapping=True)
        rows = self._add_start_and_end(read["input_ids"])
        size = sum(
            len(text[: places[-1][1]].encode(errors="replace"))
            for text, places in zip(texts, read["offset_mapping"], strict=True)
            if places
        )
        ranks: list[torch.Tensor] = []
        nats = 0.0
        with torch.inference_mode():
            for batch in make_batches(rows, _scoring_batch_tokens(self.module)):
                logits, targets = predict_tokens(self.module, batch)
                nats += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
                ranks.append((logits >= logits.gather(1, targets[:, None])).sum(1))
        rank = torch.cat(ranks)
        top1, top3, top5 = ((rank <= k).double().mean().item() for k in (1, 3, 5))
        bits = nats / math.log(2) / size if size else math.nan
        return Score(top1, top3, top5, nats / len(rank), bits, len(rank))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text with a start and an end token, cut to `max_tokens`; a text that is cut has no end."""
        return self._add_start_and_end(self._tokenize(texts)["input_ids"]) if texts else []

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

    def _tokenize(self, texts: Sequence[str], **more: bool) -> Any:
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

    def _add_start_and_end(self, ids: TokenRows) -> list[list[int]]:
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
        cache: folder where `tiny` lies; default: `pretext.home.model_cache_folder`.
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
    with explain_model_errors(name):
        tokenizer = AutoTokenizer.from_pretrained(source)
        module: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise ModelError(f"The model {name!r} has no fast tokenizer with an end token; name another student.")
    chosen = training or (Training() if name == TINY else Training(rate=5e-5))
    placed = module.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    return CausalStudent(name, placed, tokenizer, chosen)


def tiny_folder(cache: Path | None = None) -> Path:
    """Where the pretrained `tiny` lies or is to lie."""
    return (cache or model_cache_folder()) / "tiny-student-1"


def _scoring_batch_tokens(module: Any) -> int:
    return max(256, min(4096, _MAX_LOGITS // int(module.config.vocab_size)))
