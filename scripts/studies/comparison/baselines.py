"""Write texts that cost no privacy, because nobody votes: what private votes must beat to be worth their epsilon.

Their quality is where the gap begins that a method closes (`pretext.evaluation.metrics.gap_closed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pretext.config.settings import Config
from pretext.jobs.parts import Parts
from pretext.jobs.run import expand_seeds, make_first_population
from pretext.run.account import AccountReference
from pretext.run.folder import Run
from pretext.run.records import Candidate, Seed
from pretext.screening.screen import Screen

NO_ACCOUNT = AccountReference("none", "none", "none")
"""Nothing is released: there is nothing to charge."""


def prompt_only(config: Config, folder: Path, parts: Parts, description: str, examples: Sequence[str]) -> Run:
    """Write texts from a public sentence and invented examples. A second call continues the first.

    Args:
        config: generator, length, number and screening of the texts; its private data is never read.
        folder: a run folder of its own.
        parts: of which only the engine is opened.
        description: what the texts are, without a full stop; it stands in every prompt.
        examples: invented texts; every prompt shows as many of them as the expansion shows seeds.
    """
    labeled = config.model_copy(update={"data": config.data.model_copy(update={"labels": (description,)})})
    return _expand_candidates(labeled, folder, parts, [Candidate(text) for text in examples])


def expand_only(config: Config, folder: Path, parts: Parts) -> Run:
    """Expand the initial population with equal weights: the same job without its votes.

    A population in the folder is used as it is.
    """
    run = Run.create(folder, config, NO_ACCOUNT)
    population = run.population(0) or run.save_population(
        0, make_first_population(config, Screen(config.screening), parts.engine() if config.initial.prompts else None)
    )
    return _expand_candidates(config, folder, parts, population)


def _expand_candidates(config: Config, folder: Path, parts: Parts, candidates: Sequence[Candidate]) -> Run:
    run = Run.create(folder, config, NO_ACCOUNT)
    seeds = [Seed(candidate.text, candidate.label, 0, 0.0, 1.0) for candidate in candidates]
    expand_seeds(config, run, seeds, parts.engine, config.expansion.texts)
    return run
