"""Seeds to n synthetic texts by few-shot generation, streamed to disk. Post-processing: it costs no privacy.

Work is done in chunks. After each one the texts are appended and flushed, then the count of finished chunks is replaced
atomically; a resume cuts off what a kill left behind the last counted chunk and goes on from there. What a chunk asks
depends on that count only, so the texts are those of an uninterrupted run.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pretext.answers import extract_answer
from pretext.config.settings import Expansion, Screening
from pretext.files import Row
from pretext.models.engines import Engine, Sampling
from pretext.progress import show_progress
from pretext.prompts import Prompt, PromptStyle
from pretext.run.folder import Run
from pretext.run.records import ExpansionState, Seed
from pretext.run.shards import Shards
from pretext.screening.screen import Screen
from pretext.screening.usable import make_barren_error

_PROMPTS_PER_TEXT = 64  # a generator that takes more is given up ...
_PATIENCE = 256  # ... after so many prompts too many
_MAX_OVERSAMPLING = 8  # prompts of a chunk per missing text: an estimate from a few answers may be far off
_MIN_PROMPTS = 32
_log = logging.getLogger("pretext")


class Writer(Protocol):
    """Writes texts chunk by chunk; a chunk's choices depend on its number and size only."""

    def write(self, number: int, prompts: int, screen: Screen, advance: Callable[[int], None]) -> list[Row]:
        """Ask `prompts` prompts and return the rows of the answers that pass the screen."""
        ...


def expand(
    run: Run,
    open_writer: Callable[[], Writer],
    known: Iterable[str],
    texts: int,
    *,
    expansion: Expansion,
    screening: Screening,
    prompts_at_once: int,
) -> Path:
    """Write synthetic texts until there are `texts`; continue where an earlier call ended.

    Args:
        run: the folder.
        open_writer: called for only if texts are missing.
        known: texts whose duplicates are dropped.
        texts: synthetic texts in all.
        expansion: which files to write.
        screening: what a synthetic text must be.
        prompts_at_once: most prompts of a chunk.

    Returns:
        The file of the texts, or the folder of their shards; see `pretext.run.shards`.

    Raises:
        EngineError: the engine fails, or almost nothing that it writes passes the screening.
    """
    shards, state = Shards.of(expansion, run), run.expansion_state()
    shards.restore(state.kept, state.size)
    if state.kept < texts:
        screen = Screen(screening, chain(known, _texts(shards.read_first(state.kept))))
        screen.dropped = Counter(state.dropped)
        state = _write_chunks(run, open_writer(), screen, texts, shards, state, prompts_at_once)
        _log.info("Expansion: %d texts written; dropped: %s.", state.kept, state.dropped or "none")
    shards.seal(state.kept, last=True)
    return shards.target


class SeedWriter:
    """Writes synthetic texts from seeds, drawn in proportion to their weight.

    With labels, every label gets its share of the seeds' noisy weight.
    """

    def __init__(
        self, seeds: Sequence[Seed], engine: Engine, expansion: Expansion, style: PromptStyle, seed: int
    ) -> None:
        self._sampler = PromptSampler(seeds, expansion.examples, style)
        self._engine = engine
        self._expansion = expansion
        self._style = style
        self._seed = seed

    def write(self, number: int, prompts: int, screen: Screen, advance: Callable[[int], None]) -> list[Row]:
        """See `Writer`."""
        rng = np.random.default_rng([self._seed, number, 4])
        requests, rows = self._sampler.draw(prompts, rng)
        sampling = Sampling.from_section(self._expansion, self._style.stops, rng)
        completions = self._engine.complete(requests, sampling, advance)
        answers = [extract_answer(completion, self._style.ends) for completion in completions]
        return [{"text": text or "", **row} for text, row in zip(answers, rows, strict=True) if screen.keep(text)]


class PromptSampler:
    """Draws few-shot prompts; a seed is drawn in proportion to its weight, and no seed twice for one prompt."""

    def __init__(self, seeds: Sequence[Seed], examples: int, style: PromptStyle) -> None:
        self._examples = examples
        self._style = style
        self._labels = np.unique([seed.label for seed in seeds])
        groups = [[seed for seed in seeds if seed.label == label] for label in self._labels]
        self._texts = [[seed.text for seed in group] for group in groups]
        self._edges = [np.cumsum([0.0, *(seed.weight for seed in group)]) for group in groups]

    def draw(self, prompts: int, rng: np.random.Generator) -> tuple[list[Prompt], list[Row]]:
        """Draw prompts, and for each what its text's row holds besides the text: the label, if there are any."""
        shares = np.array([edges[-1] for edges in self._edges])
        groups = rng.choice(len(shares), prompts, p=shares / shares.sum())
        examples: list[list[str]] = [[]] * prompts
        for group, (texts, edges) in enumerate(zip(self._texts, self._edges, strict=True)):
            rows = np.flatnonzero(groups == group)
            places = draw_without_replacement(edges, min(self._examples, len(texts)), len(rows), rng)
            for row, row_places in zip(rows.tolist(), places.tolist(), strict=True):
                examples[row] = [texts[place] for place in row_places]
        labels, names = self._labels[groups].tolist(), self._style.labels
        requests = [self._style.few_shot(texts, label) for texts, label in zip(examples, labels, strict=True)]
        return requests, [{"label": names[label]} if names else {} for label in labels]


def draw_without_replacement(
    edges: NDArray[np.float64], count: int, rows: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw places one after another in proportion to their weights, each at most once in a row.

    As `rng.choice(n, count, replace=False, p=...)` per row, at once and in O(log n) a place: a point is drawn from what
    is left of the line of weights, and moved past the stretches that are used.

    Args:
        edges: shape (n + 1,), cumulated weights from 0; every weight is above 0.
        count: places in a row, at most n.

    Returns:
        shape (rows, count).
    """
    places = np.empty((rows, count), np.int64)
    for column in range(count):
        used = np.sort(places[:, :column], axis=1)
        start, width = edges[used], edges[used + 1] - edges[used]
        point = rng.random(rows) * (edges[-1] - width.sum(axis=1))
        for earlier in range(column):
            point += np.where(point >= start[:, earlier], width[:, earlier], 0.0)
        places[:, column] = np.minimum(np.searchsorted(edges, point, side="right"), len(edges) - 1) - 1
    return places


def _write_chunks(
    run: Run,
    writer: Writer,
    screen: Screen,
    texts: int,
    shards: Shards,
    state: ExpansionState,
    prompts_at_once: int,
) -> ExpansionState:
    """Write chunk after chunk until there are `texts`, or the prompts without a text are too many."""
    before, fruitless = state, 0
    with show_progress("Writing synthetic texts", texts) as advance:
        advance(state.kept)
        while state.kept < texts:
            prompts = _count_prompts(state, texts - state.kept, prompts_at_once)
            rows = writer.write(state.chunks, prompts, screen, advance)[: texts - state.kept]
            advance(len(rows) - prompts)
            size = shards.append(state.kept, rows) if rows else state.size
            state = ExpansionState(state.chunks + 1, state.kept + len(rows), size, dict(screen.dropped))
            run.save_expansion_state(state)
            shards.seal(state.kept)
            fruitless = max(0, fruitless + prompts - _PROMPTS_PER_TEXT * len(rows))
            if fruitless >= _PATIENCE:
                raise make_barren_error(state.kept - before.kept, Counter(state.dropped) - Counter(before.dropped))
    return state


def _texts(rows: Iterable[Row]) -> Iterator[str]:
    return (row["text"] for row in rows)


def _count_prompts(state: ExpansionState, missing: int, limit: int) -> int:
    """Count the prompts of the next chunk: a tenth more than `missing` texts take at the share that was kept so far."""
    answered = state.kept + sum(state.dropped.values())
    oversampling = min((answered + 1) / (state.kept + 1), _MAX_OVERSAMPLING)
    return min(limit, max(math.ceil(1.1 * missing * oversampling), _MIN_PROMPTS))
