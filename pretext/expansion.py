"""Seeds to n synthetic texts by few-shot generation, streamed to disk. Post-processing: it costs no privacy.

Work is done in chunks. After each one the texts are appended and flushed, then the count of finished chunks is replaced
atomically; a resume cuts off what a kill left behind the last counted chunk and goes on from there.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from pretext.config import Config
from pretext.engines import Engine, Sampling
from pretext.errors import EngineError
from pretext.progress import progress
from pretext.prompts import answer, few_shot, stops
from pretext.run import Run, Seed
from pretext.screen import Screen

_FRUITLESS_CHUNKS = 20
_log = logging.getLogger("pretext")


@dataclass
class State:
    """How far the expansion got: finished chunks, kept texts, size of the file in bytes, dropped texts by reason."""

    chunks: int = 0
    kept: int = 0
    size: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


def expand(config: Config, run: Run, seeds: Sequence[Seed], engine: Engine, texts: int) -> Path:
    """Write `synthetic.jsonl` with `texts` lines; continue where an earlier call ended.

    With labels, every label gets its share of the seeds' noisy weight. Seeds are drawn in proportion to their weight.

    Raises:
        EngineError: the engine fails, or nothing that it writes passes the screening.
    """
    final, part = run.folder / "synthetic.jsonl", run.folder / "synthetic.jsonl.part"
    state = State(**(run.load("expansion.json") or {}))
    if state.kept >= texts and final.exists():
        return final
    with run.writing():
        _restore(final, part, state)
    screen = Screen(config.screening, [*(seed.text for seed in seeds), *_texts_of(part)])
    screen.dropped = Counter(state.dropped)
    fruitless = 0
    with progress("Writing synthetic texts", texts) as advance, part.open("ab") as file:
        advance(min(state.kept, texts))
        while state.kept < texts:
            chunk = _chunk(config, seeds, engine, state.chunks, screen)[: texts - state.kept]
            fruitless = 0 if chunk else fruitless + 1
            if fruitless == _FRUITLESS_CHUNKS:
                raise EngineError(
                    f"The generator wrote nothing usable in {fruitless} chunks in a row (dropped so far: "
                    f"{dict(screen.dropped)}); "
                    "try another models.generator, a higher expansion.temperature or a wider screening, then resume."
                )
            _append(run, file.fileno(), chunk)
            state = State(
                state.chunks + 1, state.kept + len(chunk), os.fstat(file.fileno()).st_size, dict(screen.dropped)
            )
            run.save("expansion.json", asdict(state))
            advance(len(chunk))
    with run.writing():
        os.replace(part, final)
    _log.info("Expansion: %d texts written; dropped: %s.", state.kept, state.dropped or "none")
    return final


def _chunk(config: Config, seeds: Sequence[Seed], engine: Engine, number: int, screen: Screen) -> list[dict[str, str]]:
    """The kept texts of one chunk; its choices depend on the chunk's number only."""
    rng = np.random.default_rng([config.evolution.seed, number, 4])
    expansion, labels, chat = config.expansion, config.data.labels, config.models.prompt_format == "chat"
    weight = np.array([seed.weight for seed in seeds])
    of_label = np.array([seed.label for seed in seeds])
    prompts, chosen = [], []
    for label in of_label[rng.choice(len(seeds), config.speed.chunk, p=weight / weight.sum())]:
        same = np.flatnonzero(of_label == label)
        share = weight[same] / weight[same].sum()
        examples = rng.choice(same, min(expansion.examples, len(same)), replace=False, p=share)
        name = labels[label] if labels else None
        prompts.append(few_shot([seeds[row].text for row in examples], name, chat))
        chosen.append({} if name is None else {"label": name})
    sampling = Sampling.of(expansion, stops(config.models.one_paragraph), rng)
    answers = [answer(completion) for completion in engine.complete(prompts, sampling)]
    return [{"text": text or "", **extra} for text, extra in zip(answers, chosen, strict=True) if screen.keep(text)]


def _append(run: Run, file: int, rows: Sequence[dict[str, str]]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(errors="replace")
    with run.writing():
        while lines:
            lines = lines[os.write(file, lines) :]
        os.fsync(file)


def _restore(final: Path, part: Path, state: State) -> None:
    """Make `part` hold exactly the finished chunks, be it new, interrupted, or a finished file that shall grow."""
    if not part.exists() and final.exists():
        copy = part.with_suffix(".copy")
        shutil.copyfile(final, copy)
        os.replace(copy, part)
    part.touch()
    os.truncate(part, state.size)


def _texts_of(part: Path) -> Iterator[str]:
    with part.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]
