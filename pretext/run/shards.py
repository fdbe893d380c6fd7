"""A run's synthetic texts on disk: one file, or numbered shards of equal size; JSON lines or parquet.

synthetic.jsonl, synthetic.parquet               without expansion.shard_texts
synthetic/00000.jsonl, synthetic/00001.jsonl ... with it; also as .parquet
synthetic.00000.part                             JSON lines, whatever the format: a shard that is not full yet

Texts are appended to a part; a full part is sealed, that is, renamed or converted into its shard. Only full parts and
complete shards come before the one in progress, so counted texts are found again after a kill at any moment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, assert_never

from pretext.config.settings import Expansion
from pretext.errors import RunFolderError
from pretext.files import Row, json_line, open_atomically, open_regular, write_parquet
from pretext.formatting import quote_path
from pretext.progress import show_progress
from pretext.run.folder import Run

_ROWS_PER_BATCH = 16_384
_ANNOUNCED_ROWS, _PROGRESS_STEP = 100_000, 1000
_UNLIMITED = 2**62
_READ_ERRORS = (OSError, ValueError, TypeError, LookupError, NotImplementedError, RecursionError)
"""What a damaged file raises: pyarrow's errors are among them."""
_PART = re.compile(r"synthetic\.([0-9]{5,})\.part")
_SHARDS = {kind: re.compile(rf"([0-9]{{5,}})\.{kind}") for kind in ("jsonl", "parquet")}


def synthetic_rows(folder: Path, announce: str | None = None) -> Iterator[Row]:
    """Stream the synthetic texts of a run folder with their labels, in order.

    Args:
        folder: the run folder.
        announce: what a display says, if the texts are many; None: nothing is displayed.

    Raises:
        RunFolderError: this is no run folder, there are no texts in it yet, or their files are damaged.
    """
    run, config = Run.open(folder)
    run.require_texts()
    shards = Shards.of(config.expansion, run)
    if not shards.files:
        raise RunFolderError(
            f"{folder} holds no synthetic texts yet; continue the run with `pretext resume {quote_path(folder)}`."
        )
    total = 0 if announce is None else run.expansion_state().kept
    with show_progress(announce if total >= _ANNOUNCED_ROWS else None, total) as advance:
        for number, row in enumerate(chain.from_iterable(map(_read_shard, shards.files)), 1):
            yield row
            if number % _PROGRESS_STEP == 0:
                advance(_PROGRESS_STEP)


@dataclass(frozen=True)
class Shards:
    """The files that the expansion writes.

    Attributes:
        run: the folder.
        format: of the finished files.
        texts: per shard; None for a single file.
    """

    run: Run
    format: Literal["jsonl", "parquet"]
    texts: int | None

    @classmethod
    def of(cls, expansion: Expansion, run: Run) -> Shards:
        """Describe the files that the settings ask for."""
        return cls(run, expansion.format, expansion.shard_texts)

    @property
    def target(self) -> Path:
        """The single file, or the folder of the shards."""
        return self.run.folder / (f"synthetic.{self.format}" if self.texts is None else "synthetic")

    @property
    def files(self) -> list[Path]:
        """The finished files, in order."""
        return [self._shard(number) for number in self._shard_numbers()]

    def append(self, count: int, rows: Sequence[Row]) -> int:
        """Write rows behind the first `count` texts, safely on disk; return the bytes of the part in progress."""
        size = 0
        while rows:
            number = count // self._capacity
            room = (number + 1) * self._capacity - count
            size = self._append(number, rows[:room])
            count, rows = count + len(rows[:room]), rows[room:]
        return size if count % self._capacity else 0

    def seal(self, count: int, *, last: bool = False) -> None:
        """Turn all full parts into shards, and with `last` the one in progress too."""
        for number in self._part_numbers():
            if last or number < count // self._capacity:
                with self.run.writing():
                    self._seal(self._part(number), self._shard(number))

    def restore(self, count: int, size: int) -> None:
        """Cut the files back to the first `count` texts, as they were counted.

        Raises:
            RunFolderError: counted texts are missing.
        """
        with self.run.writing():
            for path, numbers in ((self._part, self._part_numbers()), (self._shard, self._shard_numbers())):
                for number in numbers:
                    if number * self._capacity >= count:
                        path(number).unlink()
        self.seal(count)
        for number in range(-(-count // self._capacity)):
            if not (self._part(number).exists() or self._shard(number).exists()):
                raise self._loss_error(self._shard(number))
        part = self._part(count // self._capacity)
        if part.exists():
            if part.stat().st_size < size:
                raise self._loss_error(part)
            with self.run.writing():
                os.truncate(part, size)

    def read_first(self, count: int) -> Iterator[Row]:
        """Stream the first `count` texts, wherever they are."""
        for number in range(-(-count // self._capacity)):
            part = self._part(number)
            yield from _read_shard(part if part.exists() else self._shard(number))

    @property
    def _capacity(self) -> int:
        return self.texts or _UNLIMITED

    def _shard(self, number: int) -> Path:
        return self.target if self.texts is None else self.target / f"{number:05}.{self.format}"

    def _part(self, number: int) -> Path:
        return self.run.folder / f"synthetic.{number:05}.part"

    def _part_numbers(self) -> list[int]:
        return _find_numbers(self.run.folder, _PART)

    def _shard_numbers(self) -> list[int]:
        if self.texts is None:
            return [0] if self.target.is_file() else []
        return _find_numbers(self.target, _SHARDS[self.format])

    def _append(self, number: int, rows: Iterable[Row]) -> int:
        part, shard = self._part(number), self._shard(number)
        with self.run.writing():
            if not part.exists() and shard.exists():  # a finished run shall grow
                with open_atomically(part) as file:
                    file.writelines(map(json_line, _read_shard(shard)))
            with part.open("ab") as file:
                file.writelines(map(json_line, rows))
                file.flush()
                os.fsync(file.fileno())
                return file.tell()

    def _seal(self, part: Path, shard: Path) -> None:
        if self.texts is not None:
            self.target.mkdir(exist_ok=True)
        match self.format:
            case "jsonl":
                os.replace(part, shard)
            case "parquet":
                with open_atomically(shard) as file:
                    write_parquet(_read_shard(part), file)
                part.unlink()
            case unknown:
                assert_never(unknown)

    def _loss_error(self, path: Path) -> RunFolderError:
        return RunFolderError(
            f"{path} is missing or cut short, though {self.run.folder / 'expansion.json'} counts its texts; put it "
            "back, or delete expansion.json to write all texts anew, then resume with --accept-changes."
        )


def _find_numbers(folder: Path, name: re.Pattern[str]) -> list[int]:
    """List the numbers in the names of files, ascending; a name that only begins like one is somebody else's."""
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted(int(found[1]) for found in map(name.fullmatch, names) if found)


def _read_shard(path: Path) -> Iterator[Row]:
    """Stream the rows of a file. Raises RunFolderError if it is damaged."""
    read = _read_parquet if path.suffix == ".parquet" else _read_lines
    try:
        yield from map(_check_row, read(path))
    except _READ_ERRORS as error:
        raise RunFolderError(f"{path} cannot be read ({type(error).__name__}); put a whole copy of it back.") from None


def _read_lines(path: Path) -> Iterator[Any]:
    with open_regular(path) as lines:
        yield from map(json.loads, lines)


def _read_parquet(path: Path) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    with open_regular(path) as file, ParquetFile(file) as table:
        for batch in table.iter_batches(_ROWS_PER_BATCH):
            yield from batch.to_pylist()


def _check_row(row: Any) -> Row:
    """Check that a row is what the expansion writes: a text, perhaps with a label. Raises ValueError or TypeError."""
    if not isinstance(row, dict) or "text" not in row or not row.keys() <= {"text", "label"}:
        raise ValueError("no row")
    for value in row.values():
        str.encode(value)  # half a character is damage as well: none is ever written
    return row
