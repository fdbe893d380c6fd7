"""Text files: decoded by what stands before the first record, and split into lines of bounded length."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import BinaryIO, TextIO

from pretext.formats.faults import MAX_RECORD_CHARACTERS, Record, check_names, make_length_fault

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark this one begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LEAST_LINE = 64  # a shorter line counts as so many characters: gigabytes of blank lines would take minutes
_MAGIC = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"SQLite", "a SQLite database"),
    (b"%PDF", "a PDF document"),
)


class Lines:
    """The lines of a text file; a record with the blank lines before it holds at most `MAX_RECORD_CHARACTERS`.

    Attributes:
        number: of the line that was read last.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._room = MAX_RECORD_CHARACTERS
        self.number = 0

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(self._room + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self._room -= max(len(line), _LEAST_LINE)
        if self._room < 0:
            raise make_length_fault(f"line {self.number}")
        return line

    def end_record(self) -> None:
        """Let the next record begin."""
        self._room = MAX_RECORD_CHARACTERS


def open_text(raw: io.BufferedReader, *, begins_in_ascii: bool = True) -> TextIO:
    """Decode UTF-8, or what a byte order mark names; UTF-16 without one shows where the first character is ASCII."""
    head = raw.peek(4)[:4]
    encoding = _find_marked_encoding(head)
    if encoding is None and begins_in_ascii and head[:2].count(0) == 1:
        encoding = "utf-16-be" if head[0] == 0 else "utf-16-le"
    return io.TextIOWrapper(raw, encoding or "utf-8", newline="")


def _find_marked_encoding(head: bytes) -> str | None:
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)


def read_text_lines(raw: io.BufferedReader, columns: Sequence[str]) -> Iterator[Record]:
    """Read one text a line, as column "text". No line is a header: the first is a text like all others."""
    check_names(["text"], columns, "; a txt file holds one text a line, as column 'text': name a table .tsv or .csv")
    with open_text(raw, begins_in_ascii=False) as stream:
        lines = Lines(stream)
        for line in lines:
            if text := line.strip():
                lines.end_record()
                yield {"text": text}


def explain_undecodable(raw: io.BufferedReader, *, is_packed: bool) -> str:
    """Say which line of a file, perhaps a compressed one, is not text, and a remedy that loses no character."""
    head = raw.peek(8)[:8]
    kind = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if kind is not None:
        return f"the content is {kind}, unlike the name's ending; rename the file, or export it as csv or jsonl"
    if _find_marked_encoding(head) not in (None, "utf-8-sig") or 0 in head[:2]:
        return "the text begins as UTF-16 or UTF-32 and does not go on so; give a complete file, or save it as UTF-8"
    first, is_mixed = _find_undecodable_line(raw)
    if is_mixed:
        return f"line {first} is not valid UTF-8, though other lines are; mend or remove it"
    return (
        f"line {first} is not valid UTF-8; {'unpack the file and ' if is_packed else ''}convert it with "
        "`iconv -f ENCODING -t UTF-8`, where ENCODING is what the program that wrote it used (Excel in western Europe "
        "and America: WINDOWS-1252), or save it as UTF-8 there"
    )


def _find_undecodable_line(raw: BinaryIO) -> tuple[int, bool]:
    """Return the number of the first line that is not UTF-8, and whether another line shows that the file is."""
    first, has_utf8 = 0, False
    for number, line in enumerate(iter(partial(raw.readline, MAX_RECORD_CHARACTERS), b""), 1):
        if not line.isascii():
            if isinstance(decode_cell(line), bytes):
                first = first or number
            else:
                has_utf8 = True
            if first and has_utf8:
                break
    return first, has_utf8


def decode_cell(value: bytes) -> str | bytes:
    """Return bytes that are UTF-8 as a text, since some programs write texts as binary; others as they are."""
    with suppress(UnicodeDecodeError):
        return value.decode()
    return value
