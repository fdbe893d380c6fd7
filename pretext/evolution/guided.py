"""Guided proposals: texts that begin as the clients' texts begin. Post-processing of a release.

A frozen generator hardly follows examples, but it continues whatever begins. Sentence starts that a release shows well
above its noise are therefore put into the generator's mouth: by prefix for a model that continues samples, by request
for one that is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretext.answers import extract_answer
from pretext.config.settings import Expansion
from pretext.evolution.weighing import Target
from pretext.models.engines import Engine, Sampling
from pretext.profile.features import join_words, read_start
from pretext.progress import show_progress
from pretext.prompts import Prompt, PromptStyle
from pretext.run.records import Candidate, Origin
from pretext.screening.screen import Screen
from pretext.screening.usable import check_usable

_CLEAR = 3.0
"""Standard deviations above which a start is taken for real: of 1,000 starts that nobody uses about one is."""

_MAX_PROMPTS_PER_TEXT = 3
_MIN_PROMPTS_AT_ONCE = 64


@dataclass(frozen=True)
class Starts:
    """Sentence starts with their shares of the clients' texts; the empty start has what is left.

    Attributes:
        texts: the starts; the last one is empty.
        shares: shape (len(texts),), above 0, of sum 1.
    """

    texts: list[str]
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, target: Target) -> Starts:
        """Take the starts of one and two words that stand clearly above the noise of a release."""
        shares: dict[tuple[str, ...], float] = {}
        features = [feature for query in target.queries[:1] for feature in query.vocabulary.features]
        for place, feature in enumerate(features):
            words = read_start(feature)
            if words and target.mean[place] > _CLEAR * target.deviation[place]:
                shares[words] = float(target.mean[place])
        pairs = {words: share for words, share in shares.items() if len(words) == 2}
        rest = {
            words: share - sum(pair_share for pair, pair_share in pairs.items() if pair[:1] == words)
            for words, share in shares.items()
            if len(words) == 1
        }
        chosen = {join_words(words): share for words, share in (rest | pairs).items() if share > 0}
        unknown = max(1 - sum(chosen.values()), 0.05)
        weights = np.array([*chosen.values(), unknown])
        return cls([*chosen, ""], weights / weights.sum())

    def draw(self, count: int, rng: np.random.Generator) -> list[str]:
        """Draw starts in proportion to their shares."""
        return [self.texts[row] for row in rng.choice(len(self.texts), count, p=self.shares)]


def write_guided(
    prompts: Sequence[Prompt],
    starts: Sequence[Starts],
    wanted: int,
    expansion: Expansion,
    style: PromptStyle,
    engine: Engine,
    screen: Screen,
    rng: np.random.Generator,
) -> list[Candidate]:
    """Write `wanted` texts whose starts are drawn from a release, in equal shares over the labels.

    Args:
        prompts: of each label.
        starts: of each label.
        wanted: texts; fewer come where most answers do not pass the screening.
        expansion: how the generator samples.
        style: how answers end.
        engine: writes.
        screen: drops texts, and counts them.
        rng: draws starts and seeds.

    Raises:
        EngineError: almost nothing that the generator writes is usable.
    """
    pool: list[Candidate] = []
    left = _MAX_PROMPTS_PER_TEXT * wanted
    with show_progress("Writing guided texts", wanted) as advance:
        while len(pool) < wanted and left > 0:
            count = min(max(wanted - len(pool), _MIN_PROMPTS_AT_ONCE), left)
            left -= count
            labels = [row % len(prompts) for row in range(count)]
            drawn = [starts[label].draw(1, rng)[0] for label in labels]
            sampling = Sampling.from_section(expansion, style.stops, rng)
            requests = [style.begin(prompts[label], start) for label, start in zip(labels, drawn, strict=True)]
            before = len(pool)
            for label, start, answer in zip(labels, drawn, engine.complete(requests, sampling), strict=True):
                text = extract_answer(style.finish(start, answer), style.ends)
                if screen.keep(text):
                    pool.append(Candidate(text or "", label, Origin("guided", 0)))
            advance(min(len(pool), wanted) - min(before, wanted))
            check_usable(len(pool), screen.dropped)
    return pool[:wanted]
