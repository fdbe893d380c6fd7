"""Write synthetic texts by an accepted writer: the texts of its sample first, then new ones. Post-processing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pretext.answers import extract_answer
from pretext.config.settings import Expansion
from pretext.evolution.distillation import acceptance_probabilities
from pretext.evolution.guided import Starts
from pretext.evolution.weighing import Target
from pretext.files import Row
from pretext.models.engines import Engine, Sampling
from pretext.prompts import Prompt, PromptStyle
from pretext.run.records import Candidate
from pretext.run.writers import Acceptance
from pretext.screening.screen import Screen
from pretext.vectors import Embedder


@dataclass(frozen=True)
class LabelPlan:
    """How texts of one label are written and accepted.

    Attributes:
        share: of all texts, as released.
        target: what the releases say of the label.
        acceptance: of the writer's texts.
        starts: that the writer is given; None for a writer that needs none.
        prompt: that asks for a text.
    """

    share: float
    target: Target
    acceptance: Acceptance
    starts: Starts | None
    prompt: Prompt


class AcceptedWriter:
    """Writes texts and accepts each with its probability; chunk 0 is the sample that the writer was judged by.

    Args:
        plans: of each label.
        sample: what the writer wrote before.
        engine: called for when the sample is used up.
        embed: places texts among the clusters.
        expansion: how to sample.
        style: how answers end, and the labels' names.
        seed: of all choices.
    """

    def __init__(
        self,
        plans: Sequence[LabelPlan],
        sample: Sequence[Candidate],
        engine: Callable[[], Engine],
        embed: Embedder,
        expansion: Expansion,
        style: PromptStyle,
        seed: int,
    ) -> None:
        self._plans = plans
        self._sample = sample
        self._engine = engine
        self._embed = embed
        self._expansion = expansion
        self._style = style
        self._seed = seed

    def write(self, number: int, prompts: int, screen: Screen, advance: Callable[[int], None]) -> list[Row]:
        """Write a chunk: ask `prompts` prompts, and return the rows of the accepted answers that pass the screen."""
        rng = np.random.default_rng([self._seed, number, 4])
        if number == 0:
            advance(prompts)
            pool = [self._sample[row] for row in rng.permutation(len(self._sample))]
            candidates = self._balance(pool)
        else:
            candidates = self._ask(prompts, rng, advance)
        return [self._row(candidate) for candidate in self._accept(candidates, rng) if screen.keep(candidate.text)]

    def _ask(self, prompts: int, rng: np.random.Generator, advance: Callable[[int], None]) -> list[Candidate]:
        labels = rng.choice(len(self._plans), prompts, p=[plan.share for plan in self._plans]).tolist()
        starts = [plan.starts.draw(1, rng)[0] if (plan := self._plans[label]).starts else "" for label in labels]
        requests = [
            self._style.begin(self._plans[label].prompt, start) for label, start in zip(labels, starts, strict=True)
        ]
        sampling = Sampling.from_section(self._expansion, self._style.stops, rng)
        completions = self._engine().complete(requests, sampling, advance)
        answers = (
            extract_answer(self._style.finish(start, completion), self._style.ends)
            for start, completion in zip(starts, completions, strict=True)
        )
        return [Candidate(text, label) for text, label in zip(answers, labels, strict=True) if text]

    def _balance(self, sample: Sequence[Candidate]) -> list[Candidate]:
        """Cut the sample so that labels stand in it in their shares."""
        counts = np.bincount([candidate.label for candidate in sample], minlength=len(self._plans))
        shares = np.array([plan.share for plan in self._plans])
        size = min((count / share for count, share in zip(counts, shares, strict=True) if share > 0), default=0.0)
        left = np.floor(size * shares + 1e-9)
        kept = []
        for candidate in sample:
            if left[candidate.label] >= 1:
                left[candidate.label] -= 1
                kept.append(candidate)
        return kept

    def _accept(self, candidates: Sequence[Candidate], rng: np.random.Generator) -> list[Candidate]:
        luck = rng.random(len(candidates))
        accepted = np.zeros(len(candidates), bool)
        for label, plan in enumerate(self._plans):
            rows = [row for row, candidate in enumerate(candidates) if candidate.label == label]
            if rows:
                texts = [candidates[row].text for row in rows]
                accepted[rows] = luck[rows] < acceptance_probabilities(plan.acceptance, plan.target, texts, self._embed)
        return [candidate for candidate, kept in zip(candidates, accepted.tolist(), strict=True) if kept]

    def _row(self, candidate: Candidate) -> Row:
        labels = self._style.labels
        return {"text": candidate.text, **({"label": labels[candidate.label]} if labels else {})}
