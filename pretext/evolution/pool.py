"""The pool that a profile weighs: texts that the generator writes, and texts of public sets. Public."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretext.config.settings import Expansion, Initial, Profile
from pretext.errors import UsageError
from pretext.evolution.initial import write_from_prompts
from pretext.evolution.public_texts import read_public_texts
from pretext.models.engines import Engine
from pretext.prompts import PromptStyle
from pretext.run.records import Candidate, Origin
from pretext.screening.screen import Screen
from pretext.texts import Reservoir

LEAST_TEXTS = 100
"""Texts below which a pool says nothing: fewer than a vocabulary, let alone weights, can be made of."""


def make_pool(
    initial: Initial,
    profile: Profile,
    expansion: Expansion,
    style: PromptStyle,
    seed: int,
    screen: Screen,
    engine: Engine | None = None,
    locations: Sequence[str] = (),
) -> list[Candidate]:
    """Make the pool: texts written from the prompts, then a sample of each public set, without duplicates.

    Args:
        initial: prompts and public sets.
        profile: sizes.
        expansion: how the generator samples, as it will the synthetic texts: a pool with fewer words in it than they
            may have would teach a generator that is adapted to it to repeat itself.
        style: how prompts are written. With labels each of them gets an equal share of the written texts; a public
            text may serve any label.
        seed: of every choice.
        screen: drops texts, and counts them.
        engine: writes from prompts; without one there are none.
        locations: the public sets.

    Raises:
        UsageError: the pool has fewer than `LEAST_TEXTS` texts.
    """
    rng = np.random.default_rng([seed, 0, 0])
    labels = max(1, len(style.labels))
    pool: list[Candidate] = []
    if initial.prompts and engine is not None and profile.prompted_texts:
        texts = write_from_prompts(initial, expansion, style, engine, profile.prompted_texts, screen, rng)
        pool += [Candidate(text, row % labels, Origin("prompt", 0)) for row, text in enumerate(texts)]
    pool += sample_public_sets(initial, profile, screen, rng, locations)
    if len(pool) < LEAST_TEXTS:
        raise UsageError(
            f"The pool has only {len(pool)} usable texts (dropped: {dict(screen.dropped) or 'none'}), and a profile "
            f"needs at least {LEAST_TEXTS}; give more public texts, other prompts or a larger profile.prompted_texts."
        )
    return pool


def sample_public_sets(
    initial: Initial, profile: Profile, screen: Screen, rng: np.random.Generator, locations: Sequence[str]
) -> list[Candidate]:
    """Draw at most `profile.public_texts` texts of each public set, and keep those that pass the screening."""
    texts: list[Candidate] = []
    for number, location in enumerate(locations):
        reservoir = Reservoir[str](profile.public_texts, rng.integers)
        for text in read_public_texts(initial, location, screen.max_words):
            reservoir.add(text)
        texts += [Candidate(text, 0, Origin("public", number)) for text in reservoir.sample if screen.keep(text)]
    return texts
