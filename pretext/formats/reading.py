"""Read the records of one file: csv, JSON, lines of text, parquet and Arrow, each also compressed.

How a record is read depends on its own bytes, and on what stands before the first record: the ending of the file's
name, a byte order mark, a `sep=` line, a header or a schema. No record decides how another is read. Otherwise one
client could change how every other client's texts are read, and no bound on one client's votes would bound what that
client changes. A record of a csv file ends where its quotes say, so a csv file must come from a program that quotes.

Parsers quote the content that they fail on, so neither their messages nor their exceptions leave this module.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import BinaryIO, Final

from pretext.errors import UsageError
from pretext.files import open_regular
from pretext.formats.columnar import read_arrow, read_parquet
from pretext.formats.faults import Fault, Record
from pretext.formats.lines import explain_undecodable, read_text_lines
from pretext.formats.objects import read_json
from pretext.formats.separated import read_csv

_READERS: Final[dict[str, Callable[[io.BufferedReader, Sequence[str]], Iterator[Record]]]] = {
    **dict.fromkeys((".csv", ".tsv"), read_csv),
    **dict.fromkeys((".json", ".jsonl", ".ndjson", ".jsonlines"), read_json),
    ".txt": read_text_lines,
    **dict.fromkeys((".parquet", ".pq"), read_parquet),
    **dict.fromkeys((".arrow", ".feather"), read_arrow),
}
_DECOMPRESS: Final[dict[str, Callable[[BinaryIO], BinaryIO]]] = {
    ".gz": gzip.open,  # type: ignore[dict-item]
    ".bz2": bz2.open,  # type: ignore[dict-item]
    ".xz": lzma.open,  # type: ignore[dict-item]
    ".zst": lambda raw: _open_zstd(raw),
}
_ZIP = ".zip"
FORMATS: Final = f"{', '.join(_READERS)}, compressed also with {', '.join([*_DECOMPRESS, _ZIP])} behind it"
"""The endings that are read, in words."""


@dataclass(frozen=True)
class DataFile:
    """A file, wherever it lies.

    Attributes:
        name: its path or address; the endings say format and compression, and messages show it.
        open: opens its bytes.
    """

    name: str
    open: Callable[[], BinaryIO]

    @classmethod
    def at(cls, path: Path) -> DataFile:
        """The file at a path, which must be a regular one."""
        return cls(str(path), partial(open_regular, path))

    def read_text(self) -> str:
        """Read it as a whole, as UTF-8."""
        with self.open() as file:
            return file.read().decode("utf-8-sig", errors="replace")


def has_known_ending(name: str) -> bool:
    """Decide whether a name ends as one of a file that can be read."""
    return _find_ending(name) in _READERS or PurePath(name).suffix.lower() == _ZIP


def strip_compression(path: Path) -> Path:
    """Return a path without the ending of a compression."""
    return path.with_suffix("") if path.suffix.lower() in (*_DECOMPRESS, _ZIP) else path


def read_records(file: DataFile, columns: Sequence[str]) -> Iterator[Record]:
    """Read the records of a file in order, each reduced to those of the columns that it has.

    Raises:
        UsageError: the file is of an unknown format, damaged, or neither in UTF-8 nor in marked UTF-16; or a header or
            schema lacks a column or has it twice; or a record is too long. Neither the message nor the chain of
            exceptions quotes its content.
    """
    failure = None
    try:
        with file.open() as raw:
            stream, ending = _unpack(file.name, raw)
            with stream:
                yield from _READERS[ending](stream, columns)
    except Fault as fault:
        failure = str(fault)
    except UnicodeDecodeError:
        failure = _explain_undecodable(file)
    except EOFError:
        failure = "the compressed data end early; give the complete file"
    except (zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        failure = f"the compressed data are damaged, or of another kind than the name says ({type(error).__name__})"
    if failure is not None:
        raise UsageError(f"In {file.name}, {failure}.")


def _explain_undecodable(file: DataFile) -> str:
    with file.open() as raw, _unpack(file.name, raw)[0] as stream:
        return explain_undecodable(stream, is_packed=PurePath(file.name).suffix.lower() not in _READERS)


def _find_ending(name: str) -> str:
    """Return the ending that says the format, which may be followed by that of a compression."""
    path = PurePath(name)
    return PurePath(path.stem if path.suffix.lower() in (*_DECOMPRESS, _ZIP) else path.name).suffix.lower()


def _unpack(name: str, raw: BinaryIO) -> tuple[io.BufferedReader, str]:
    """Return the unpacked bytes of a file, and the ending that says their format."""
    stream, ending, compression = raw, _find_ending(name), PurePath(name).suffix.lower()
    if compression == _ZIP:
        stream, member = _open_only_member(raw)
        ending = ending if ending in _READERS else PurePath(member).suffix.lower()
    elif compression in _DECOMPRESS:
        stream = _DECOMPRESS[compression](raw)
    if ending not in _READERS:
        raise Fault(f"the ending of the name tells no known format; known are {FORMATS}")
    return io.BufferedReader(stream), ending  # type: ignore[arg-type]


def _open_only_member(raw: BinaryIO) -> tuple[BinaryIO, str]:
    archive = zipfile.ZipFile(raw)
    members = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(members) != 1:
        raise Fault("there is not exactly one file; unpack the archive and give one")
    return archive.open(members[0]), members[0]  # type: ignore[return-value]


def _open_zstd(raw: BinaryIO) -> BinaryIO:
    import pyarrow

    return pyarrow.CompressedInputStream(raw, "zstd")  # type: ignore[no-any-return]
