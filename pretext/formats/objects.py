"""JSON: one object a line, or one array of objects; the array is never held as a whole."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, TextIO

from pretext.formats.faults import MAX_RECORD_CHARACTERS, Fault, Record, find_root, make_length_fault, reach_cell
from pretext.formats.lines import Lines, open_text

_PIECE_CHARACTERS = 2**16
_BLANKS = re.compile(r"[ \t\r\n]*")


class _Twice(dict[str, Any]):
    """In place of a value whose key is there twice: whatever is looked for inside is the same."""

    def get(self, _: str, default: object = None) -> Any:
        return self


_TWICE = _Twice()


def read_json(raw: io.BufferedReader, columns: Sequence[str]) -> Iterator[Record]:
    """Read the objects of a file; a key that an object lacks is no fault."""
    head = raw.peek(_PIECE_CHARACTERS).lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")
    keys = {*columns, *chain.from_iterable(name.split(".") for name in columns)}
    decoder = json.JSONDecoder(object_pairs_hook=partial(_build_object, keys))
    read = _read_array if head.startswith(b"[") else _read_lines
    with open_text(raw) as stream:
        for place, value in read(stream, decoder):
            if not isinstance(value, dict):
                raise Fault(f"{place} is not one JSON object; write one object a line, or one array of objects")
            roots = dict.fromkeys(find_root(name, value) for name in columns)
            record = {name: value[name] for name in roots if name in value}
            if any(reach_cell(record, name) is _TWICE for name in columns):
                raise Fault(f"{place} has the same column twice; rename or remove one")
            yield record


def _build_object(columns: Iterable[str], pairs: Sequence[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        record.update((name, _TWICE) for name in columns if names.count(name) > 1)
    return record


def _read_lines(stream: TextIO, decoder: json.JSONDecoder) -> Iterator[tuple[str, Any]]:
    """Yield the value of each line with its place; None where it has none."""
    lines = Lines(stream)
    for line in lines:
        if text := line.strip():
            lines.end_record()
            value = None
            with suppress(ValueError, RecursionError):
                value = decoder.decode(text)
            yield f"line {lines.number}", value


def _read_array(stream: TextIO, decoder: json.JSONDecoder) -> Iterator[tuple[str, Any]]:
    """Yield each value of an array with its place; None where there is none."""
    text = _ArrayText(stream)
    text.take_sign()
    number, sign = 0, "," if text.next_sign() != "]" else text.take_sign()
    while sign == ",":
        number += 1
        yield f"record {number}", text.take_value(decoder)
        sign = text.take_sign()
    if sign != "]" or text.next_sign():
        raise Fault(f"after record {number} there is neither a comma nor the end of the array and of the file")


class _ArrayText:
    """The text of an array, of which at most one record and a piece are held."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._at = 0

    def next_sign(self) -> str:
        """Skip blanks and return the next character, "" at the end."""
        blanks = 0
        while (start := _BLANKS.match(self._text, self._at).end()) == len(self._text):  # type: ignore[union-attr]
            blanks += start - self._at
            self._at = start
            if blanks > MAX_RECORD_CHARACTERS:
                raise make_length_fault("a row of blanks")
            if not self._read():
                return ""
        self._at = start
        return self._text[start]

    def take_sign(self) -> str:
        """Skip blanks, and return and pass the next character, "" at the end."""
        sign = self.next_sign()
        self._at += len(sign)
        return sign

    def take_value(self, decoder: json.JSONDecoder) -> Any:
        """Decode and pass the object that comes next; None if there is none."""
        if self.next_sign() != "{":
            return None
        while True:
            with suppress(ValueError, RecursionError):
                value, self._at = decoder.raw_decode(self._text, self._at)
                return value
            if len(self._text) - self._at > MAX_RECORD_CHARACTERS:
                raise make_length_fault("the array")
            if not self._read():
                return None

    def _read(self) -> bool:
        """Read on by a piece, or by as much as is held: what is decoded again costs at most as much once more."""
        held = self._text[self._at :]
        piece = self._stream.read(max(_PIECE_CHARACTERS, len(held)))
        self._text, self._at = held + piece, 0
        return bool(piece)
