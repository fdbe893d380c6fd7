"""Candidates, and where the first ones come from. Everything here is public."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretext.config.settings import Config
from pretext.errors import UsageError
from pretext.evolution.public_texts import read_public_texts
from pretext.models.engines import Engine, Sampling
from pretext.progress import show_progress
from pretext.prompts import Prompt, description_prompt, extract_answer, few_shot_prompt, stop_strings
from pretext.run.records import Candidate, Origin
from pretext.screening.screen import Screen
from pretext.texts import Reservoir

_MAX_PROMPTS_PER_TEXT = 5  # prompts per text that is wanted, at most
_MIN_PROMPTS_AT_ONCE = 8  # prompts at once: the last few texts must not hang on the luck of one prompt each time


def make_initial_population(
    config: Config, engine: Engine | None, locations: Sequence[str] = (), screen: Screen | None = None
) -> list[Candidate]:
    """The first candidates: from public texts, from prompts (then `engine` is needed), or both; at most `population`.

    With labels, every label gets an equal share: nothing is known yet of the private proportions.

    Args:
        config: the run's settings.
        engine: writes from prompts.
        locations: sources of public texts, each of which gives an equal part; default: the configured one.
        screen: for who wants to know what was dropped.

    Raises:
        UsageError: the public source has too few usable texts.
    """
    size, initial = config.evolution.population, config.initial
    rng = np.random.default_rng([config.evolution.seed, 0, 0])
    screen = screen or Screen(config.screening)
    locations = locations or ([initial.texts] if initial.texts is not None else [])
    texts: list[str] = []
    origins: list[Origin] = []
    if initial.prompts and engine is not None:
        wanted = size if not locations else round(size * initial.prompted_share)
        texts += _write_from_prompts(config, engine, wanted, screen, rng)
        origins += [Origin("prompt", 0)] * len(texts)
    for number, location in enumerate(locations):
        wanted = (size - len(texts)) // (len(locations) - number)
        texts += _sample_public_texts(config, location, wanted, screen, rng)
        origins += [Origin("public", number)] * (len(texts) - len(origins))
    if len(texts) < 2:
        raise UsageError(
            "The initial population has fewer than two usable texts; give more public texts or other prompts."
        )
    labels = max(1, len(config.data.labels))
    order = rng.permutation(len(texts))
    return [Candidate(texts[i], position % labels, origins[i]) for position, i in enumerate(order)]


def _sample_public_texts(
    config: Config, location: str, wanted: int, screen: Screen, rng: np.random.Generator
) -> list[str]:
    """A uniform sample of the usable public texts, by reservoir; one pass over any number of them."""
    reservoir = Reservoir[str](wanted, rng.integers)
    for text in filter(screen.keep, read_public_texts(config, location)):
        reservoir.add(text)
    if reservoir.seen < wanted:
        raise UsageError(
            f"{location} has only {reservoir.seen} usable texts of at least {config.initial.min_words} words, "
            f"{wanted} are needed; lower evolution.population or give a larger public source."
        )
    return reservoir.sample


def _write_from_prompts(
    config: Config, engine: Engine, wanted: int, screen: Screen, rng: np.random.Generator
) -> list[str]:
    """Texts that the generator writes from the public descriptions, in equal shares."""
    kept: list[str] = []
    left = _MAX_PROMPTS_PER_TEXT * wanted
    with show_progress("Writing the initial population from prompts", wanted) as advance:
        while len(kept) < wanted and left > 0:
            prompts = _make_prompts(config, min(max(wanted - len(kept), _MIN_PROMPTS_AT_ONCE), left))
            left -= len(prompts)
            sampling = Sampling.from_section(config.variation, stop_strings(config.models.one_paragraph), rng)
            fresh = [text for text in map(extract_answer, engine.complete(prompts, sampling)) if screen.keep(text)]
            advance(min(len(fresh), wanted - len(kept)))
            kept += [text for text in fresh if text is not None]
    return kept[:wanted]


def _make_prompts(config: Config, count: int) -> list[Prompt]:
    """So many prompts, the descriptions taking turns, each with the invented examples if there are any."""
    chat, examples = config.models.prompt_format == "chat", config.initial.examples
    prompts = [
        few_shot_prompt(examples, description, chat) if examples else description_prompt(description, chat)
        for description in config.initial.prompts
    ]
    return [prompts[i % len(prompts)] for i in range(count)]
