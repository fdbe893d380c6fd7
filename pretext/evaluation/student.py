"""Students: small language models that learn from texts and are scored on others.

A student reads each text on its own: a start token, the text's tokens, an end token. Batches hold texts of similar
length, padded on the right, where a causal model does not look; so a text's loss does not depend on its batch.

A student is a value. `train` returns a new one and leaves the old one unchanged. Its parts are open to other ways of
training, for example federated learning: `module` (the torch module, float32), `encode` (texts to rows of ids),
`predict_tokens` (a batch's logits and targets, with gradient), `make_batches` and `with_weights`.

The guarantee covers neither the output of a student that saw private text nor any score of private text.
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

TINY = "tiny"
_MAX_LOGITS = 2**25  # numbers in the logits of a scored batch


@dataclass(frozen=True)
class Score:
    """How well texts were predicted, over all their tokens alike, end tokens included.

    Attributes:
        top1, top3, top5: share of tokens among the one, three or five most probable; a tie does not count.
        cross_entropy: nats per token.
        bits_per_byte: of UTF-8; compares students with different tokenizers, as long as few texts are cut.
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
        """The student's name in reports."""
        ...

    @property
    def longest(self) -> int:
        """The length in tokens that texts are cut to, in training and in scoring."""
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
        """Return a new student that learned from `texts`; within one process, equal seeds give equal students.

        A short measurement chooses the dtype, so another process may choose another one.

        Args:
            texts: to learn from.
            validation: texts that decide when to stop; never the texts that are scored later. Without any, the student
                learns until its tokens are used up.
            seed: for the order of the texts and all else that the model draws.
            tokens: to learn from at most, repetitions counted; default: the student's own setting.
            announce: the name under which progress is shown.

        Raises:
            UsageError: there is no text to learn from.
        """
        ...

    def score(self, texts: Sequence[str]) -> Score:
        """Score how well the student predicts the texts. Raises UsageError if there are none."""
        ...


@dataclass(frozen=True)
class CausalStudent:
    """A causal language model of transformers.

    Attributes:
        module: the model, float32; its output has `logits`.
        tokenizer: a fast one.
        training: settings of `train`.
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
        """See `Student`; always in float32."""
        import torch

        if not texts:
            raise UsageError("There is no text to score the student on; give at least one.")
        encoding = self._tokenize(texts, return_offsets_mapping=True)
        rows = self._add_start_and_end(encoding["input_ids"])
        size = sum(
            len(text[: offsets[-1][1]].encode(errors="replace"))
            for text, offsets in zip(texts, encoding["offset_mapping"], strict=True)
            if offsets
        )
        ranks: list[torch.Tensor] = []
        nats = 0.0
        config: Any = self.module.config
        batch_tokens = max(256, min(4096, _MAX_LOGITS // int(config.vocab_size)))
        with torch.inference_mode():
            for batch in make_batches(rows, batch_tokens):
                logits, targets = predict_tokens(self.module, batch)
                nats += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
                ranks.append((logits >= logits.gather(1, targets[:, None])).sum(1))
        rank = torch.cat(ranks)
        top1, top3, top5 = ((rank <= k).double().mean().item() for k in (1, 3, 5))
        bits = nats / math.log(2) / size if size else math.nan
        return Score(top1, top3, top5, nats / len(rank), bits, len(rank))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text with a start and an end token, cut to `max_tokens`; a cut text has no end."""
        return self._add_start_and_end(self._tokenize(texts)["input_ids"]) if texts else []

    def with_weights(self, weights: Mapping[str, torch.Tensor]) -> CausalStudent:
        """Return a copy with these weights, all or some, by the names of `module.state_dict()`."""
        module = copy.deepcopy(self.module)
        module.load_state_dict(dict(weights), strict=False)
        return replace(self, module=module)

    @property
    def device(self) -> torch.device:
        """The device of the module."""
        return next(self.module.parameters()).device

    @property
    def longest(self) -> int:
        """Most tokens of a text, start and end included: the setting, or what the model can see."""
        limit = getattr(self.module.config, "max_position_embeddings", None)
        return min(self.training.max_tokens, limit or self.training.max_tokens)

    def _tokenize(self, texts: Sequence[str], **more: bool) -> Any:
        """Tokenize what fits behind a start token; `more` goes to the tokenizer."""
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
    """Load a student that has not learned from the run's texts.

    Args:
        name: `tiny` (about 4 million parameters, made once by `pretext student` from public texts), `embedded`
            (SmolLM2-135M-Instruct out of its package), or a causal language model by folder or Hugging Face name.
        cache: folder of `tiny`; default: `pretext.home.model_cache_folder`.
        device: `cpu`, `cuda`, ...; default: the best available one.
        training: settings of `train`; default: those that suit `tiny`, or a pretrained model.

    Raises:
        ModelError: the model cannot be found or loaded; for `tiny` the message says how to make it.
        UsageError: the device is not available.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = tiny_folder(cache) if name == TINY else resolve_generator(name)
    if name == TINY and not (tiny_folder(cache) / "config.json").exists():
        raise ModelError(
            f"The student `tiny` is not in {source} yet; make it once, in about ten minutes, with `pretext "
            "student FILES...` of public text, or name another student, such as embedded."
        )
    if device is not None:
        check_device(device)
    with explain_model_errors(name):
        tokenizer = AutoTokenizer.from_pretrained(source)
        module: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise ModelError(f"The model {name!r} has no fast tokenizer with an end token; name another student.")
    module = module.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    return CausalStudent(name, module, tokenizer, training or (Training() if name == TINY else Training(rate=5e-5)))


def tiny_folder(cache: Path | None = None) -> Path:
    """Return the folder of the pretrained `tiny`, whether it exists yet or not."""
    return (cache or model_cache_folder()) / "tiny-student-1"
