"""Seeds to n synthetic texts by few-shot generation, streamed to disk. Post-processing: it costs no privacy.

Work is done in chunks. After each one the texts are appended and flushed, then the count of finished chunks is replaced
atomically; a resume cuts off what a kill left behind the last counted chunk and goes on from there. What a chunk asks
depends on that count only, so the texts are those of an uninterrupted run.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pretext.config.settings import Config
from pretext.errors import EngineError, RunFolderError
from pretext.files import Row
from pretext.models.engines import Engine, Sampling
from pretext.progress import show_progress
from pretext.prompts import Prompt, extract_answer, few_shot_prompt, stop_strings
from pretext.run.folder import Run
from pretext.run.records import Seed
from pretext.run.shards import Shards
from pretext.screening.screen import Screen

_MAX_FRUITLESS_CHUNKS = 20
_MIN_PROMPTS = 32
_log = logging.getLogger("pretext")


@dataclass(frozen=True)
class ExpansionState:
    """How far it got: finished chunks, kept texts, bytes of the part in progress, dropped texts by reason."""

    chunks: NonNegativeInt
    kept: NonNegativeInt
    size: NonNegativeInt
    dropped: dict[str, NonNegativeInt]


def expand(config: Config, run: Run, seeds: Sequence[Seed], engine: Callable[[], Engine], texts: int) -> Path:
    """Write synthetic texts until there are `texts`; continue where an earlier call ended.

    With labels, every label gets its share of the seeds' noisy weight. Seeds are drawn in proportion to their weight.
    `engine` is called for only if texts are missing.

    Returns:
        The file of the texts, or the folder of their shards; see `pretext.run.shards`.

    Raises:
        EngineError: the engine fails, or nothing that it writes passes the screening.
    """
    shards, state = Shards.of(config.expansion, run), _load_state(run)
    shards.restore(state.kept, state.size)
    if state.kept < texts:
        state = _write_chunks(config, run, seeds, engine(), texts, shards, state)
        _log.info("Expansion: %d texts written; dropped: %s.", state.kept, state.dropped or "none")
    shards.seal(state.kept, last=True)
    return shards.target


class PromptSampler:
    """Draws few-shot prompts; a seed is drawn in proportion to its weight, and no seed twice for one prompt."""

    def __init__(self, config: Config, seeds: Sequence[Seed]) -> None:
        self._config, self._count = config, config.expansion.examples
        self._chat = config.models.prompt_format == "chat"
        self._labels = np.unique([seed.label for seed in seeds])
        same = [[seed for seed in seeds if seed.label == label] for label in self._labels]
        self._texts = [[seed.text for seed in group] for group in same]
        self._edges = [np.cumsum([0.0, *(seed.weight for seed in group)]) for group in same]

    def draw(self, prompts: int, rng: np.random.Generator) -> tuple[list[Prompt], list[Row]]:
        """That many prompts, and for each what its text's row holds besides the text: the label, if there are any."""
        shares = np.array([edges[-1] for edges in self._edges])
        drawn = rng.choice(len(shares), prompts, p=shares / shares.sum())
        chosen: list[list[str]] = [[]] * prompts
        for group, (texts, edges) in enumerate(zip(self._texts, self._edges, strict=True)):
            rows = np.flatnonzero(drawn == group)
            places = draw_without_replacement(edges, min(self._count, len(texts)), len(rows), rng)
            for row, picked in zip(rows.tolist(), places.tolist(), strict=True):
                chosen[row] = [texts[place] for place in picked]
        labels, names = self._labels[drawn].tolist(), self._config.data.labels
        asked = [
            few_shot_prompt([*self._config.anchors, *examples], self._config.about(label), self._chat)
            for examples, label in zip(chosen, labels, strict=True)
        ]
        return asked, [{"label": names[label]} if names else {} for label in labels]


def draw_without_replacement(
    edges: NDArray[np.float64], count: int, rows: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Places drawn one after another in proportion to their weights, each at most once in a row.

    As `rng.choice(n, count, replace=False, p=...)` per row, at once and in O(log n) a place: a point is drawn from what
    is left of the line of weights, and moved past the stretches that are taken.

    Args:
        edges: shape (n + 1,), cumulated weights from 0; every weight is above 0.
        count: places in a row, at most n.

    Returns:
        shape (rows, count).
    """
    chosen = np.empty((rows, count), np.int64)
    for column in range(count):
        taken = np.sort(chosen[:, :column], axis=1)
        start, width = edges[taken], edges[taken + 1] - edges[taken]
        point = rng.random(rows) * (edges[-1] - width.sum(axis=1))
        for earlier in range(column):
            point += np.where(point >= start[:, earlier], width[:, earlier], 0.0)
        chosen[:, column] = np.minimum(np.searchsorted(edges, point, side="right"), len(edges) - 1) - 1
    return chosen


def _write_chunks(
    config: Config, run: Run, seeds: Sequence[Seed], engine: Engine, texts: int, shards: Shards, state: ExpansionState
) -> ExpansionState:
    """Chunk after chunk until there are `texts`."""
    examples = PromptSampler(config, seeds)
    known = chain(config.anchors, (seed.text for seed in seeds), (row["text"] for row in shards.read_first(state.kept)))
    screen = Screen(config.screening, known)
    screen.dropped = Counter(state.dropped)
    fruitless = 0
    with show_progress("Writing synthetic texts", texts) as advance:
        advance(state.kept)
        while state.kept < texts:
            prompts = _count_prompts(state, texts - state.kept, config.speed.prompts_at_once)
            rows = write_chunk(config, examples, engine, state.chunks, prompts, screen, advance)[: texts - state.kept]
            advance(len(rows) - prompts)
            fruitless = 0 if rows else fruitless + 1
            if fruitless == _MAX_FRUITLESS_CHUNKS:
                raise _barren_error(fruitless, screen)
            size = shards.append(state.kept, rows) if rows else state.size
            state = ExpansionState(state.chunks + 1, state.kept + len(rows), size, dict(screen.dropped))
            run.save("expansion.json", asdict(state))
            shards.seal(state.kept)
    return state


def _count_prompts(state: ExpansionState, missing: int, limit: int) -> int:
    """Prompts of the next chunk: a tenth more than `missing` texts take at the share that was kept so far."""
    answered = state.kept + sum(state.dropped.values())
    needed = math.ceil(1.1 * missing * (answered + 1) / (state.kept + 1))
    return min(limit, max(needed, _MIN_PROMPTS))


def write_chunk(
    config: Config,
    examples: PromptSampler,
    engine: Engine,
    number: int,
    prompts: int,
    screen: Screen,
    advance: Callable[[int], None],
) -> list[Row]:
    """The kept texts of one chunk; its choices depend on the chunk's number and size only."""
    rng = np.random.default_rng([config.evolution.seed, number, 4])
    asked, rows = examples.draw(prompts, rng)
    sampling = Sampling.from_section(config.expansion, stop_strings(config.models.one_paragraph), rng)
    answers = map(extract_answer, engine.complete(asked, sampling, advance))
    return [{"text": text or "", **row} for text, row in zip(answers, rows, strict=True) if screen.keep(text)]


def _barren_error(chunks: int, screen: Screen) -> EngineError:
    return EngineError(
        f"The generator wrote nothing usable in {chunks} chunks in a row (dropped so far: {dict(screen.dropped)}); "
        "try another models.generator, a higher expansion.temperature or a wider screening, then resume."
    )


def _load_state(run: Run) -> ExpansionState:
    """How far the expansion got. Raises RunFolderError if that cannot be told."""
    stored = run.load("expansion.json")
    try:
        return ExpansionState(0, 0, 0, {}) if stored is None else TypeAdapter(ExpansionState).validate_python(stored)
    except ValidationError:
        raise RunFolderError(
            f"{run.folder / 'expansion.json'} is damaged; delete that file to write all texts anew, then resume."
        ) from None
