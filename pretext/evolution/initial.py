"""Candidates, and where the first ones come from. Everything here is public."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretext.config.settings import Config
from pretext.errors import UsageError
from pretext.evolution.public_texts import public_texts
from pretext.models.engines import Engine, Sampling
from pretext.progress import progress
from pretext.prompts import Prompt, answer, described, few_shot, stops
from pretext.run.records import Candidate, Origin
from pretext.screening.screen import Screen

_ATTEMPTS = 5  # prompts per text that is wanted, at most
_FEWEST = 8  # prompts at once: the last few texts must not hang on the luck of one prompt each time


def initial_population(
    config: Config, engine: Engine | None, public: Sequence[str] = (), screen: Screen | None = None
) -> list[Candidate]:
    """The first candidates: from public texts, from prompts (then `engine` is needed), or both; at most `population`.

    With labels, every label gets an equal share: nothing is known yet of the private proportions.

    Args:
        config: the run's settings.
        engine: writes from prompts.
        public: sources of public texts, each of which gives an equal part; default: the configured one.
        screen: for who wants to know what was dropped.

    Raises:
        UsageError: the public source has too few usable texts.
    """
    size, initial = config.evolution.population, config.initial
    rng = np.random.default_rng([config.evolution.seed, 0, 0])
    screen = screen or Screen(config.screening)
    public = public or ([initial.texts] if initial.texts is not None else [])
    texts: list[str] = []
    origins: list[Origin] = []
    if initial.prompts and engine is not None:
        wanted = size if not public else round(size * initial.prompted_share)
        texts += _from_prompts(config, engine, wanted, screen, rng)
        origins += [Origin("prompt", 0)] * len(texts)
    for number, location in enumerate(public):
        wanted = (size - len(texts)) // (len(public) - number)
        texts += _from_public(config, location, wanted, screen, rng)
        origins += [Origin("public", number)] * (len(texts) - len(origins))
    if len(texts) < 2:
        raise UsageError(
            "The initial population has fewer than two usable texts; give more public texts or other prompts."
        )
    labels = max(1, len(config.data.labels))
    order = rng.permutation(len(texts))
    return [Candidate(texts[i], position % labels, origins[i]) for position, i in enumerate(order)]


def _from_public(config: Config, location: str, wanted: int, screen: Screen, rng: np.random.Generator) -> list[str]:
    """A uniform sample of the usable public texts, by reservoir; one pass over any number of them."""
    kept: list[str] = []
    seen = 0
    for text in public_texts(config, location):
        if not screen.keep(text):
            continue
        seen += 1
        if len(kept) < wanted:
            kept.append(text)
        elif (slot := int(rng.integers(seen))) < wanted:
            kept[slot] = text
    if seen < wanted:
        raise UsageError(
            f"{location} has only {seen} usable texts of at least {config.initial.min_words} words, "
            f"{wanted} are needed; lower evolution.population or give a larger public source."
        )
    return kept


def _from_prompts(config: Config, engine: Engine, wanted: int, screen: Screen, rng: np.random.Generator) -> list[str]:
    """Texts that the generator writes from the public descriptions, in equal shares."""
    kept: list[str] = []
    left = _ATTEMPTS * wanted
    with progress("Writing the initial population from prompts", wanted) as advance:
        while len(kept) < wanted and left > 0:
            prompts = _prompts(config, min(max(wanted - len(kept), _FEWEST), left))
            left -= len(prompts)
            sampling = Sampling.of(config.variation, stops(config.models.one_paragraph), rng)
            fresh = [text for text in map(answer, engine.complete(prompts, sampling)) if screen.keep(text)]
            advance(min(len(fresh), wanted - len(kept)))
            kept += [text for text in fresh if text is not None]
    return kept[:wanted]


def _prompts(config: Config, count: int) -> list[Prompt]:
    """So many prompts, the descriptions taking turns, each with the invented examples if there are any."""
    chat, examples = config.models.prompt_format == "chat", config.initial.examples
    prompts = [
        few_shot(examples, description, chat) if examples else described(description, chat)
        for description in config.initial.prompts
    ]
    return [prompts[i % len(prompts)] for i in range(count)]
