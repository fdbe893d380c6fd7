"""The first population: texts of public sets, and texts that the generator writes from public prompts. Public."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretext.answers import extract_answer
from pretext.config.settings import Evolution, Expansion, Initial, Variation
from pretext.errors import UsageError
from pretext.evolution.public_texts import read_public_texts
from pretext.models.engines import Engine, Sampling
from pretext.progress import show_progress
from pretext.prompts import PromptStyle
from pretext.run.records import Candidate, Origin
from pretext.screening.screen import Screen
from pretext.screening.usable import LEAST_SHARE, make_barren_error
from pretext.texts import Reservoir

_MAX_PROMPTS_PER_TEXT = 5
_ENOUGH_TO_JUDGE = 64  # prompts
_MIN_PROMPTS_AT_ONCE = 8  # the last few texts must not hang on the luck of one prompt each time


def make_initial_population(
    initial: Initial,
    evolution: Evolution,
    variation: Variation,
    style: PromptStyle,
    screen: Screen,
    engine: Engine | None = None,
    locations: Sequence[str] = (),
) -> list[Candidate]:
    """Make at most `evolution.population` candidates, from public texts, from prompts, or from both.

    With labels, every label gets an equal share: nothing is known yet of the private proportions.

    Args:
        initial: public texts, prompts, and their shares.
        evolution: size of the population and seed.
        variation: how the generator samples.
        style: how prompts are written.
        screen: drops texts, and counts them.
        engine: writes from prompts; without one there are none.
        locations: public sets, each of which gives an equal part; default: the configured one.

    Raises:
        UsageError: a public set has too few usable texts.
        EngineError: almost nothing that the generator writes is usable.
    """
    size = evolution.population
    rng = np.random.default_rng([evolution.seed, 0, 0])
    locations = locations or ([initial.texts] if initial.texts is not None else [])
    texts: list[str] = []
    origins: list[Origin] = []
    if initial.prompts and engine is not None:
        wanted = size if not locations else round(size * initial.prompted_share)
        texts += write_from_prompts(initial, variation, style, engine, wanted, screen, rng)
        origins += [Origin("prompt", 0)] * len(texts)
    for number, location in enumerate(locations):
        wanted = (size - len(texts)) // (len(locations) - number)
        texts += _sample_public_texts(initial, location, wanted, screen, rng)
        origins += [Origin("public", number)] * (len(texts) - len(origins))
    if len(texts) < 2:
        raise UsageError(
            f"The initial population has fewer than two usable texts (dropped: {dict(screen.dropped) or 'none'}); give "
            "more public texts or other prompts."
        )
    labels = max(1, len(style.labels))
    order = rng.permutation(len(texts))
    return [Candidate(texts[i], position % labels, origins[i]) for position, i in enumerate(order)]


def _sample_public_texts(
    initial: Initial, location: str, wanted: int, screen: Screen, rng: np.random.Generator
) -> list[str]:
    reservoir = Reservoir[str](wanted, rng.integers)
    for text in filter(screen.keep, read_public_texts(initial, location, screen.max_words)):
        reservoir.add(text)
    if reservoir.seen < wanted:
        raise UsageError(
            f"{location} has only {reservoir.seen} usable texts of at least {initial.min_words} words, {wanted} are "
            "needed; lower evolution.population or give a larger public source."
        )
    return reservoir.sample


def write_from_prompts(
    initial: Initial,
    sampled: Variation | Expansion,
    style: PromptStyle,
    engine: Engine,
    wanted: int,
    screen: Screen,
    rng: np.random.Generator,
) -> list[str]:
    """Write texts from the public descriptions, in equal shares, each with the invented examples if there are any."""
    prompts = [style.describe(description, initial.examples) for description in initial.prompts]
    texts: list[str] = []
    most = left = _MAX_PROMPTS_PER_TEXT * wanted
    with show_progress("Writing the initial population from prompts", wanted) as advance:
        while len(texts) < wanted and left > 0:
            count = min(max(wanted - len(texts), _MIN_PROMPTS_AT_ONCE), left)
            left -= count
            sampling = Sampling.from_section(sampled, style.stops, rng)
            completions = engine.complete([prompts[i % len(prompts)] for i in range(count)], sampling)
            answers = [extract_answer(completion, style.ends) for completion in completions]
            fresh = [text for text in answers if screen.keep(text)]
            advance(min(len(fresh), wanted - len(texts)))
            texts += [text for text in fresh if text is not None]
            asked = most - left
            if len(texts) < LEAST_SHARE * asked and (asked >= _ENOUGH_TO_JUDGE or left == 0):
                raise make_barren_error(len(texts), screen.dropped)
    return texts[:wanted]
