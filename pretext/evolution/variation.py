"""How a new candidate is made from an old one: in-context, rewrite or mask-fill. Public."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from pretext.config.settings import Config
from pretext.evolution.mask_filling import MaskFill
from pretext.models.engines import Engine, Sampling
from pretext.models.masked_lm import MaskedLM
from pretext.progress import show_progress
from pretext.prompts import Prompt, extract_answer, few_shot_prompt, rewrite_prompt, stop_strings
from pretext.run.records import Candidate


class Variation(Protocol):
    """Makes variations of candidates."""

    def __call__(
        self, parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator
    ) -> list[str | None]:
        """One variation per parent, None where it failed; `pool` is where further examples come from."""
        ...


class PromptedVariation:
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
        prompts = [self._make_prompt(parent, by_label.get(parent.label, []), rng) for parent in parents]
        sampling = Sampling.from_section(self._config.variation, stop_strings(self._config.models.one_paragraph), rng)
        with show_progress("Writing variations", len(prompts)) as advance:
            return [extract_answer(completion) for completion in self._engine.complete(prompts, sampling, advance)]

    def _make_prompt(self, parent: Candidate, pool: Sequence[str], rng: np.random.Generator) -> Prompt:
        chat = self._config.models.prompt_format == "chat"
        about = self._config.about(parent.label)
        if self._config.variation.kind == "rewrite":
            return rewrite_prompt(parent.text, about, chat)
        drawn = (
            rng.choice(len(pool), min(self._config.variation.examples, len(pool)), replace=False).tolist()
            if pool
            else []
        )
        examples = [pool[i] for i in drawn if pool[i] != parent.text][: self._config.variation.examples - 1]
        # The parent stands last: what is nearest to the answer shapes it most.
        return few_shot_prompt([*self._config.anchors, *examples, parent.text], about, chat)


def open_variation(config: Config, engine: Callable[[], Engine]) -> Variation:
    """The variation that the configuration names; `engine` is opened only where it is needed."""
    if config.variation.kind == "mask-fill":
        model = MaskedLM(config.models.masked, config.speed.device, config.speed.dtype)
        return MaskFill(model, config.variation, config.speed.batch_size)
    return PromptedVariation(config, engine())
