"""How a new candidate is made from an old one: in-context, rewrite or mask-fill. Public."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from pretext.answers import extract_answer
from pretext.config import settings
from pretext.evolution.mask_filling import MaskFill
from pretext.models.engines import Engine, Sampling
from pretext.models.masked_lm import MaskedLM
from pretext.progress import show_progress
from pretext.prompts import Prompt, PromptStyle
from pretext.run.records import Candidate


class Variation(Protocol):
    """Makes variations of candidates."""

    def __call__(
        self, parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator
    ) -> list[str | None]:
        """Make one variation per parent, None where it failed; further examples come from `pool`."""
        ...


class PromptedVariation:
    """Variation by a language model: in-context (the parent and others as examples) or rewrite (the parent alone)."""

    def __init__(self, variation: settings.Variation, style: PromptStyle, engine: Engine) -> None:
        self._variation = variation
        self._style = style
        self._engine = engine

    def __call__(
        self, parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator
    ) -> list[str | None]:
        """See `Variation`."""
        by_label: dict[int, list[str]] = {}
        for candidate in pool:
            by_label.setdefault(candidate.label, []).append(candidate.text)
        prompts = [self._make_prompt(parent, by_label.get(parent.label, []), rng) for parent in parents]
        sampling = Sampling.from_section(self._variation, self._style.stops, rng)
        with show_progress("Writing variations", len(prompts)) as advance:
            completions = self._engine.complete(prompts, sampling, advance)
        return [extract_answer(completion, self._style.ends) for completion in completions]

    def _make_prompt(self, parent: Candidate, pool: Sequence[str], rng: np.random.Generator) -> Prompt:
        if self._variation.kind == "rewrite":
            return self._style.rewrite(parent.text, parent.label)
        count = self._variation.examples
        rows = rng.choice(len(pool), min(count, len(pool)), replace=False).tolist() if pool else []
        examples = [pool[row] for row in rows if pool[row] != parent.text][: count - 1]
        # The parent stands last: what is nearest to the answer shapes it most.
        return self._style.few_shot([*examples, parent.text], parent.label)


def open_variation(
    variation: settings.Variation,
    style: PromptStyle,
    models: settings.Models,
    speed: settings.Speed,
    engine: Callable[[], Engine],
) -> Variation:
    """Open the variation that the settings name; `engine` is called for only where it is needed."""
    if variation.kind == "mask-fill":
        return MaskFill(MaskedLM(models.masked, speed.device, speed.dtype), variation, speed.batch_size)
    return PromptedVariation(variation, style, engine())
