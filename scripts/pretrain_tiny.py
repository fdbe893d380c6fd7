"""Make the student `tiny` from public texts, once; 13 minutes of processor time, so about 7 on two free cores.

    python scripts/pretrain_tiny.py FILES... [--folder FOLDER] [--tokens N]

FILES are read as everywhere: csv, json, jsonl or parquet, each also .gz, or Hugging Face dataset ids, with a column
`text` (--text-column). One text in fifty is held out: they choose the best weights and are scored at the end. Never
give it private text: whatever is measured with the student later would know it.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from pathlib import Path

from pretext.errors import UsageError
from pretext.evaluation.student import tiny_folder
from pretext.evaluation.tiny import PRETRAINING, make_untrained_student, save_student
from pretext.tables import Source, read_columns

HELD_OUT = 50


def main() -> None:
    """Read, train, score, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--folder", type=Path, default=tiny_folder())
    parser.add_argument("--tokens", type=int, default=PRETRAINING.tokens)
    arguments = parser.parse_args()
    sources = {name: texts(name, arguments.text_column) for name in arguments.files}
    learned = [text for own in sources.values() for text in own if not is_held_out(text)]
    student = make_untrained_student(learned)
    parameters = sum(value.numel() for value in student.module.parameters())
    print(f"{len(learned)} texts, {parameters:,} parameters, vocabulary {len(student.tokenizer)}", flush=True)
    validation = [text for own in sources.values() for text in own if is_held_out(text)]
    started = time.perf_counter()
    student = student.train(
        learned, validation=validation[::10], seed=0, tokens=arguments.tokens, announce="Pretraining"
    )
    print(f"{arguments.tokens:,} tokens in {time.perf_counter() - started:.0f} s", flush=True)
    for name, own in sources.items():
        print(f"held out, {Path(name).name}: {student.score([text for text in own if is_held_out(text)])}")
    save_student(student, arguments.folder)
    print(f"Wrote {arguments.folder}")


def texts(location: str, column: str) -> list[str]:
    """The usable texts of a source."""
    batches = read_columns(Source(location), [column])
    return [text for batch in batches for text in batch[column] if isinstance(text, str) and text.strip()]


def is_held_out(text: str) -> bool:
    """Whether a text is kept from training, by its hash."""
    return zlib.crc32(text.encode(errors="replace")) % HELD_OUT == 0


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(str(error))
