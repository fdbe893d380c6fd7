"""Fine-tune the generator on texts that are public or released already. Post-processing: it costs no privacy.

After each pass over the examples, the loss on held-out examples or a judgment of the caller tells whether to go on, and
the best pass is kept. A pass that has ended is never done twice: an adaptation that was killed goes on after it. Beside
the result `NAME/` lie the passes so far, in `NAME-passes/001/`, ...; an engine can load each of them. They are removed
at the end.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from pretext.config.settings import Adapt, Models, Speed
from pretext.errors import ModelError, RunFolderError, UsageError
from pretext.files import make_folder_atomically, write_atomically
from pretext.models.adapters import (
    AdapterRecord,
    PassLosses,
    digest_weights,
    find_model_folder,
    load_record,
    save_record,
)
from pretext.models.learner import Learner, Row, quantized_error
from pretext.models.low_rank import check_low_rank_support
from pretext.models.sources import names_quantization
from pretext.progress import show_progress
from pretext.prompts import Prompt

MIN_EXAMPLES: Final = 16
MIN_HELD_OUT: Final = 2
_HELD_OUT_SHARE = 0.1
_PASS_FILE, _STATE_FILE = "pass.json", "state.pt"
_log = logging.getLogger("pretext")

Judge = Callable[[Path], float]


@dataclass(frozen=True)
class Example:
    """An answer to learn, and the prompt that asks for it, exactly as an engine will be asked."""

    prompt: Prompt
    answer: str


def hold_out(examples: Sequence[Example], rng: np.random.Generator) -> tuple[list[Example], list[Example]]:
    """Split examples into those to learn from, in random order, and a tenth of the different answers to stop by.

    An answer that comes often stands on one side alone, or the loss on the other would praise learning it by heart.
    """
    answers = list(dict.fromkeys(example.answer for example in examples))
    size = max(MIN_HELD_OUT, round(_HELD_OUT_SHARE * len(answers)))
    chosen = {answers[row] for row in rng.permutation(len(answers))[:size].tolist()}
    by_answer = {example.answer: example for example in examples if example.answer in chosen}
    learned = [examples[row] for row in rng.permutation(len(examples)).tolist() if examples[row].answer not in chosen]
    return learned, list(by_answer.values())


@dataclass(frozen=True)
class _Pass:
    """A pass that has ended: which adaptation it belongs to, and what it achieved."""

    key: str
    start: float | None
    losses: PassLosses


_PASS = TypeAdapter(_Pass)


def adapt(
    models: Models,
    settings: Adapt,
    speed: Speed,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    folder: Path,
    seed: int,
    judge: Judge | None = None,
) -> AdapterRecord:
    """Adapt the generator and save the result in `folder`; `pretext.models.adapters.use_adapted` opens it.

    The same arguments give the same weights on the same machine. A folder that was finished with the same settings and
    generator is returned as it is.

    Args:
        models: names the generator.
        settings: method (lora or full), rank, passes, learning rate and batch size.
        speed: engine, device and dtype.
        examples: to learn from, at least 16 that are not blank and fit into the model's context.
        held_out: to stop by, at least 2, of the same kind.
        folder: receives a LoRA adapter or a whole model, with the record; the folder around it must be there.
        seed: of the first weights and the order of the examples.
        judge: reads the generator that a pass has left in a folder and returns a number, smaller if it is better;
            default: the loss on the held-out examples.

    Raises:
        UsageError: too few examples, or a generator that cannot be adapted, see `check_adaptable`.
        ModelError: the generator cannot be loaded or trained, or training diverged.
        RunFolderError: the folder holds something else.
    """
    check_adaptable(models, settings, speed)
    described = settings.model_dump(include={"method", "rank", "passes", "learning_rate", "batch_size"}) | {
        "generator": models.generator,
        "generator_digest": digest_weights(find_weights(models.generator)),
        "seed": seed,
    }
    passes = _Passes(folder.with_name(f"{folder.name}-passes"), _digest_inputs(described, examples, held_out))
    if (finished := _load_finished(folder, described)) is not None:
        passes.tidy(folder)  # a kill may have come between the result and this
        return finished
    learner = Learner(models.generator, settings, speed.device, speed.dtype, seed)
    rows, held_out_rows = _encode(learner, examples), _encode(learner, held_out)
    _check_sizes(len(rows), len(held_out_rows))
    done = _run_passes(learner, passes, settings.passes, rows, held_out_rows, judge)
    if (best := _find_best(done, judge)) is None:
        passes.remove()
        raise ModelError(
            f"The adaptation of {models.generator!r} diverged: no loss is a finite number; set adapt.learning_rate "
            f"below {settings.learning_rate:g}, or adapt.method to none."
        )
    record = AdapterRecord(
        **described,
        examples=len(rows),
        held_out=len(held_out_rows),
        start=done[0].start,
        losses=tuple(ended.losses for ended in done),
        best=best + 1,
        digest=digest_weights(passes.folder(best)),
    )
    passes.finish(best, folder, record)
    return record


def check_adaptable(models: Models, settings: Adapt, speed: Speed) -> None:
    """Check what can be checked before any work: whether these settings can adapt the generator.

    Raises:
        UsageError: the method is none, the generator is on a server, has an adapter already, or the engine takes none.
        ModelError: peft is not installed, or the generator is a folder without weights that can be trained.
    """
    if settings.method == "none":
        raise UsageError("adapt.method is none, so nothing adapts the generator; set it to lora or full.")
    if speed.engine == "openai":
        raise UsageError(
            "The generator's weights are on a server (speed.engine = openai), where nothing here can train them; set "
            "adapt.method to none, or generate with transformers or vllm."
        )
    if speed.engine == "ray" and settings.method == "lora":
        raise UsageError(
            "The engine ray takes no LoRA adapter; set adapt.method to full or none, or speed.engine to vllm."
        )
    if models.adapter is not None:
        raise UsageError(
            "The generator has an adapter already (models.adapter); merge it into the model, or set adapt.method to "
            "none."
        )
    if settings.method == "lora":
        check_low_rank_support()
    if Path(models.generator).expanduser().is_dir():
        find_weights(models.generator)


def find_weights(generator: str) -> Path:
    """Find the folder of a generator's weights, which can be trained.

    A generator that is named as on the hub is on this machine once an engine has opened it.

    Raises:
        ModelError: they are not on this machine, or quantized; or as `pretext.models.sources.resolve_generator`.
    """
    folder = find_model_folder(generator)
    if folder is None:
        raise ModelError(
            f"The weights of the generator {generator!r} are not on this machine; download it (`hf download "
            f"{generator}`), or set adapt.method to none."
        )
    if names_quantization(folder):
        raise quantized_error(generator)
    return folder


def _run_passes(
    learner: Learner, passes: _Passes, most: int, rows: Sequence[Row], held_out: Sequence[Row], judge: Judge | None
) -> list[_Pass]:
    """Do the passes that are missing, until one is not the best so far."""
    done = passes.load()
    if done:
        learner.load_state(passes.folder(len(done) - 1) / _STATE_FILE)
    start = done[0].start if done else _finite(learner.measure(held_out))
    with show_progress("Adapting the generator", most * len(rows)) as advance:
        advance(len(done) * len(rows))
        for number in range(most):
            if number == len(done):
                training = learner.train_pass(number, rows, advance)
                losses = PassLosses(_finite(training), _finite(learner.measure(held_out)))
                done.append(passes.save(number, learner, start, losses))
            if judge is not None and done[number].losses.judgment is None:
                judgment = _finite(judge(passes.folder(number)))
                done[number] = passes.save_losses(number, start, replace(done[number].losses, judgment=judgment))
            _log.info("Adaptation, pass %d: %s.", number + 1, done[number].losses)
            if _find_best(done[: number + 1], judge) != number:
                break
    return done


def _find_best(done: Sequence[_Pass], judge: Judge | None) -> int | None:
    """Return the first pass of the least judgment, or held-out loss where nobody judges; None if none is finite."""
    values = [ended.losses.held_out if judge is None else ended.losses.judgment for ended in done]
    finite = [(value, number) for number, value in enumerate(values) if value is not None]
    return min(finite)[1] if finite else None


class _Passes:
    """The folders of the passes of one adaptation; those of another one are removed.

    Args:
        parent: holds them.
        key: tells one adaptation from another.
    """

    def __init__(self, parent: Path, key: str) -> None:
        self._parent, self._key = parent, key

    def folder(self, number: int) -> Path:
        """Return the folder of a pass, which an engine can load."""
        return self._parent / f"{number + 1:03d}"

    def load(self) -> list[_Pass]:
        """Return the passes that have ended."""
        done: list[_Pass] = []
        try:
            while (path := self.folder(len(done)) / _PASS_FILE).exists():
                done.append(_PASS.validate_json(path.read_bytes()))
        except ValidationError:
            done = []
        if (
            done
            and all(ended.key == self._key for ended in done)
            and (self.folder(len(done) - 1) / _STATE_FILE).exists()
        ):
            return done
        self.remove()
        return []

    def save(self, number: int, learner: Learner, start: float | None, losses: PassLosses) -> _Pass:
        """Save a pass; only the last one needs the state from which the next one goes on."""
        ended = _Pass(self._key, start, losses)
        self._parent.mkdir(exist_ok=True)  # but not the folder around it, which may have been removed
        with make_folder_atomically(self.folder(number)) as fresh:
            learner.save(fresh)
            learner.save_state(fresh / _STATE_FILE)
            (fresh / _PASS_FILE).write_text(json.dumps(asdict(ended)))
        if number:
            (self.folder(number - 1) / _STATE_FILE).unlink()
        return ended

    def save_losses(self, number: int, start: float | None, losses: PassLosses) -> _Pass:
        """Save what is known of a pass later."""
        ended = _Pass(self._key, start, losses)
        write_atomically(self.folder(number) / _PASS_FILE, json.dumps(asdict(ended)))
        return ended

    def finish(self, best: int, folder: Path, record: AdapterRecord) -> None:
        """Turn the best pass into `folder`, with the record, and remove the others."""
        save_record(self.folder(best), record)
        os.replace(self.folder(best), folder)
        self.tidy(folder)

    def tidy(self, folder: Path) -> None:
        """Remove what a finished adaptation no longer needs."""
        for name in (_PASS_FILE, _STATE_FILE):
            (folder / name).unlink(missing_ok=True)
        self.remove()

    def remove(self) -> None:
        """Remove all passes."""
        shutil.rmtree(self._parent, ignore_errors=True)


def _digest_inputs(described: Mapping[str, Any], examples: Sequence[Example], held_out: Sequence[Example]) -> str:
    texts = [
        [(example.prompt.text, example.prompt.chat, example.answer) for example in part]
        for part in (examples, held_out)
    ]
    return hashlib.sha256(json.dumps([described, texts], sort_keys=True).encode()).hexdigest()


def _load_finished(folder: Path, described: Mapping[str, Any]) -> AdapterRecord | None:
    """Return the record of a folder that was finished with the same settings; None if there is no such folder."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    record = load_record(folder) if folder.is_dir() else None
    if record is None or not described.items() <= asdict(record).items():
        raise RunFolderError(
            f"{folder} holds something else than the generator adapted with these settings; delete it, or name another "
            "folder."
        )
    return record


def _encode(learner: Learner, examples: Sequence[Example]) -> list[Row]:
    rows = [learner.encode(example.prompt, example.answer) for example in examples]
    return [row for row in rows if row is not None]


def _check_sizes(examples: int, held_out: int) -> None:
    if examples < MIN_EXAMPLES or held_out < MIN_HELD_OUT:
        raise UsageError(
            f"{examples} texts to adapt the generator to and {held_out} to stop by are too few (not counting those "
            f"that are blank or longer than its context); give at least {MIN_EXAMPLES} and {MIN_HELD_OUT}, or set "
            "adapt.method to none."
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
