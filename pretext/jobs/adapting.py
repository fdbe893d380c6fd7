"""Adapt the generator to draws from the weighed pool, and let it write a sample. Post-processing of a release."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from pretext.answers import extract_answer
from pretext.config.settings import Config
from pretext.errors import ModelError, UsageError
from pretext.evolution.distillation import draw_rows
from pretext.evolution.weighing import Target
from pretext.models.adaptation import Example, adapt, check_adaptable, hold_out
from pretext.models.engines import Engine, Sampling
from pretext.profile.weights import Weights
from pretext.progress import show_progress
from pretext.prompts import Prompt
from pretext.run.folder import Run
from pretext.run.records import Candidate, Origin
from pretext.screening.screen import Screen

ADAPTER_FOLDER: Final = "adapter"
_MAX_PROMPTS_PER_TEXT = 3
_MIN_PROMPTS_AT_ONCE = 64
_log = logging.getLogger("pretext")


def check_adaptation(config: Config) -> None:
    """Check before anything is begun that the generator can be adapted as configured, if it is to be.

    Raises:
        UsageError, ModelError: see `pretext.models.adaptation.check_adaptable`.
    """
    if config.privacy.release == "profile" and config.adapt.method != "none":
        check_adaptable(config.models, config.adapt, config.speed)


def adapt_generator(
    config: Config,
    run: Run,
    prompts: Sequence[Prompt],
    pool: Sequence[Candidate],
    targets: Sequence[Target],
    weights: Sequence[Weights],
) -> Path | None:
    """Adapt the generator to draws from the weighed pool; None where it is not wanted, or impossible.

    Args:
        config: models, sizes and seed.
        run: the adapter goes into its folder.
        prompts: of each label, by which the adapted generator will be asked.
        pool: the texts.
        targets: of each label; texts are drawn in proportion to their numbers of texts.
        weights: of the pool for each label.
    """
    if config.adapt.method == "none":
        return None
    rng = np.random.default_rng([config.evolution.seed, 7])
    counts = np.array([target.texts for target in targets])
    sizes = np.round(config.adapt.texts * counts / counts.sum()).astype(int).tolist()
    examples = [
        Example(prompts[label], pool[row].text)
        for label, (label_weights, size) in enumerate(zip(weights, sizes, strict=True))
        for row in draw_rows(label_weights.p, size, rng).tolist()
    ]
    folder = run.folder / ADAPTER_FOLDER
    try:
        with run.writing():
            adapt_to_examples(config, examples, folder, rng)
    except (UsageError, ModelError) as error:  # the release is paid for: go on with the writers that there are
        _log.warning("The generator is not adapted. %s", error)
        return None
    return folder


def adapt_to_examples(config: Config, examples: Sequence[Example], folder: Path, rng: np.random.Generator) -> None:
    """Adapt the generator as a configuration describes to examples, of which some are held out to stop by."""
    learned, held_out = hold_out(examples, rng)
    adapt(config.models, config.adapt, config.speed, learned, held_out, folder, config.evolution.seed)


def write_sample(
    config: Config, prompts: Sequence[Prompt], shares: Sequence[float], engine: Engine, screen: Screen
) -> list[Candidate]:
    """Let the adapted generator write a sample, each label in its share."""
    wanted, style = config.profile.adapted_texts, config.prompt_style
    rng = np.random.default_rng([config.evolution.seed, 8])
    texts: list[Candidate] = []
    left = _MAX_PROMPTS_PER_TEXT * wanted
    with show_progress("Writing texts by the adapted generator", wanted) as advance:
        while len(texts) < wanted and left > 0:
            count = min(max(wanted - len(texts), _MIN_PROMPTS_AT_ONCE), left)
            left -= count
            labels = rng.choice(len(prompts), count, p=shares).tolist()
            sampling = Sampling.from_section(config.expansion, style.stops, rng)
            completions = engine.complete([prompts[label] for label in labels], sampling)
            answers = [extract_answer(completion, style.ends) for completion in completions]
            fresh = [
                Candidate(text or "", label, Origin("adapted", 0))
                for text, label in zip(answers, labels, strict=True)
                if screen.keep(text)
            ]
            advance(min(len(fresh), wanted - len(texts)))
            texts += fresh
    return texts[:wanted]
