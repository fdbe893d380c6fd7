"""Make the student `tiny` from public texts, once; 13 minutes of processor time, so about 7 on two free cores.

One text in fifty is held out: these texts choose the best weights and are scored at the end. Never give it private
text: the student would know that text in every later measurement.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pretext.errors import UsageError
from pretext.evaluation.student import Score
from pretext.evaluation.tiny import PRETRAINING, make_untrained_student, save_student
from pretext.tables import Source, read_texts

_STUDENT_FILE = re.compile(
    r"(?:config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens)\.json|model\.safetensors"
)
_HELD_OUT_ONE_IN = 50
_VALIDATION_ONE_IN = 10  # of the held-out texts; these are read at every check


@dataclass(frozen=True)
class Pretraining:
    """What a student was made from, and how well it predicts.

    Attributes:
        texts: how many it learned from.
        parameters: weights of the model.
        vocabulary: entries of its tokenizer.
        seconds: wall time of the training.
        scores: by source, on its held-out texts; a source without any is left out.
    """

    texts: int
    parameters: int
    vocabulary: int
    seconds: float
    scores: dict[str, Score]


def pretrain_tiny(
    locations: Sequence[str], folder: Path, *, text_column: str = "text", tokens: int = PRETRAINING.tokens
) -> Pretraining:
    """Train `tiny` on public texts and save it.

    Args:
        locations: public files or Hugging Face dataset ids.
        folder: receives the student; a model that is there is replaced.
        text_column: column of the texts, the same in all sources.
        tokens: to learn from, repetitions counted.

    Raises:
        UsageError: a source cannot be read, there is no text to learn from, or the folder holds something else.
    """
    _check_folder(folder)
    learned: list[str] = []
    held_out: dict[str, list[str]] = {}
    for location in locations:
        texts = list(read_texts(Source(location), text_column))
        learned += [text for text in texts if not _is_held_out(text)]
        held_out[location] = [text for text in texts if _is_held_out(text)]
    validation = [text for texts in held_out.values() for text in texts][::_VALIDATION_ONE_IN]
    started = time.perf_counter()
    student = make_untrained_student(learned).train(
        learned, validation=validation, seed=0, tokens=tokens, announce="Pretraining"
    )
    seconds = time.perf_counter() - started
    save_student(student, folder)
    return Pretraining(
        len(learned),
        sum(value.numel() for value in student.module.parameters()),
        len(student.tokenizer),
        seconds,
        {location: student.score(texts) for location, texts in held_out.items() if texts},
    )


def _check_folder(folder: Path) -> None:
    """Refuse, before the work, a place that holds anything but a student: saving it deletes what is there."""
    if folder.is_dir() and all(_STUDENT_FILE.fullmatch(path.name) for path in folder.iterdir()):
        return
    if folder.exists():
        raise UsageError(
            f"{folder} holds something other than a student, so nothing there is replaced; give another --folder."
        )


def _is_held_out(text: str) -> bool:
    """Whether a text is kept from training, by its hash."""
    return zlib.crc32(text.encode(errors="replace")) % _HELD_OUT_ONE_IN == 0
