"""How a new candidate is made from an old one: in-context, rewrite or mask-fill. Public."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pretext.config import Config
from pretext.engines import Engine, Sampling
from pretext.errors import ModelError
from pretext.models import loading, preferred_dtype
from pretext.population import Candidate
from pretext.progress import progress
from pretext.prompts import Prompt, answer, few_shot, rewrite, stops

if TYPE_CHECKING:
    import torch


class Variation(Protocol):
    """Makes variations of candidates."""

    def __call__(
        self, parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator
    ) -> list[str | None]:
        """One variation per parent, None where it failed; `pool` is where further examples come from."""
        ...


class Prompted:
    """Variation by a language model: in-context (the parent and others as examples) or rewrite (the parent alone)."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._config = config
        self._engine = engine

    def __call__(
        self, parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator
    ) -> list[str | None]:
        """See `Variation`."""
        by_label: dict[int, list[str]] = {}
        for candidate in pool:
            by_label.setdefault(candidate.label, []).append(candidate.text)
        prompts = [self._prompt(parent, by_label.get(parent.label, []), rng) for parent in parents]
        sampling = Sampling.of(self._config.variation, stops(self._config.models.one_paragraph), rng)
        with progress("Writing variations", len(prompts)) as advance:
            return [answer(completion) for completion in self._engine.complete(prompts, sampling, advance)]

    def _prompt(self, parent: Candidate, pool: Sequence[str], rng: np.random.Generator) -> Prompt:
        chat = self._config.models.prompt_format == "chat"
        label = self._config.data.labels[parent.label] if self._config.data.labels else None
        if self._config.variation.kind == "rewrite":
            return rewrite(parent.text, label, chat)
        drawn = (
            rng.choice(len(pool), min(self._config.variation.examples, len(pool)), replace=False).tolist()
            if pool
            else []
        )
        examples = [pool[i] for i in drawn if pool[i] != parent.text][: self._config.variation.examples - 1]
        # The parent stands last: what is nearest to the answer shapes it most.
        return few_shot([*examples, parent.text], label, chat)


class MaskFill:
    """PrE-Text's own variation: hide a share of the tokens, refill them one at a time by sampling.

    Any Hugging Face masked language model. The share is taken per text, special tokens are never hidden nor sampled,
    and texts are cut to `max_tokens`.
    """

    def __init__(self, config: Config) -> None:
        self._variation = config.variation
        self._batch_size = config.speed.batch_size
        self._tokenizer, self._model = _load_masked(config.models.masked, config.speed.device, config.speed.dtype)
        # Added tokens count as special too: a text must not gain a control token.
        self._special = sorted({*self._tokenizer.all_special_ids, *self._tokenizer.added_tokens_decoder})

    def __call__(
        self, parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator
    ) -> list[str | None]:
        """See `Variation`; the pool is not used."""
        texts: list[str | None] = [None] * len(parents)
        order = np.argsort([len(parent.text) for parent in parents], kind="stable")
        with progress("Refilling masked tokens", len(parents)) as advance:
            for start in range(0, len(order), self._batch_size):
                rows = order[start : start + self._batch_size]
                current = [parents[i].text for i in rows]
                for _ in range(self._variation.mask_passes):
                    current = self._refilled(current, rng)
                for row, text in zip(rows, current, strict=True):
                    texts[row] = text
                advance(len(rows))
        return texts

    def _refilled(self, texts: list[str], rng: np.random.Generator) -> list[str]:
        import torch

        batch = self._tokenizer(
            texts,
            truncation=True,
            max_length=self._variation.max_tokens,
            padding=True,
            return_tensors="pt",
            split_special_tokens=True,
        ).to(self._model.device)
        ids = batch["input_ids"]
        hidden = _masks(ids.cpu().numpy(), self._special, self._variation.mask_share, rng)
        for row, positions in enumerate(hidden):
            ids[row, positions] = self._tokenizer.mask_token_id
        for step in range(max(map(len, hidden), default=0)):
            rows = [row for row, positions in enumerate(hidden) if step < len(positions)]
            columns = [int(hidden[row][step]) for row in rows]
            with torch.inference_mode():
                logits = self._model(input_ids=ids[rows], attention_mask=batch["attention_mask"][rows]).logits
            ids[rows, columns] = self._sampled(logits[range(len(rows)), columns], rng)
        return [text.strip() for text in self._tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _sampled(self, logits: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """One token per row, shape (rows,), by the Gumbel trick, so that the randomness is our own generator's."""
        import torch

        logits = logits.float()
        logits[:, self._special] = -torch.inf
        if self._variation.temperature > 0:
            gumbel = torch.from_numpy(rng.gumbel(size=tuple(logits.shape)).astype(np.float32))
            logits = logits / self._variation.temperature + gumbel.to(logits.device)
        return logits.argmax(dim=1)


def open_variation(config: Config, engine: Callable[[], Engine]) -> Variation:
    """The variation that the configuration names; `engine` is opened only where it is needed."""
    return MaskFill(config) if config.variation.kind == "mask-fill" else Prompted(config, engine())


def _masks(
    ids: NDArray[np.int64], special: Sequence[int], share: float, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Per row, the positions to refill, in random order: `share` of its ordinary tokens, at least one."""
    chosen = []
    for row in ids:
        ordinary = np.flatnonzero(~np.isin(row, special))
        count = min(len(ordinary), max(1, round(share * len(ordinary))))
        chosen.append(rng.choice(ordinary, count, replace=False) if len(ordinary) else ordinary)
    return chosen


def _load_masked(name: str, device: str | None, dtype: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    with loading(name):
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForMaskedLM.from_pretrained(name, dtype=getattr(torch, dtype or preferred_dtype(device)))
    if tokenizer.mask_token_id is None:
        raise ModelError(
            f"The model {name!r} has no mask token, so it cannot fill masks; name a masked language model such as "
            "roberta-large."
        )
    return tokenizer, model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
