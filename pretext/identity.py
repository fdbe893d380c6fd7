"""When two cells name the same client, or the same label.

Telling one person apart as two clients breaks the promise to that person; taking two for one only bounds them together.
So whatever may be the same value in another type or spelling is the same here, and a cell that holds more than an
identity (an object, a list, a measured number) is none. Each cell is read by itself: no record changes how another is
read.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
import unicodedata
import uuid
from contextlib import suppress
from typing import Any

import regex

_WHOLE_NUMBER = re.compile(r"([+-]?)0*(\d+?)(?:\.0*)?", re.ASCII)
_SCIENTIFIC = re.compile(r"[+-]?\d+(?:\.\d*)?e[+-]?\d{1,3}", re.ASCII | re.IGNORECASE)
_UUID = re.compile(r"(?:urn:uuid:)?\{?([0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12})\}?", re.ASCII | re.IGNORECASE)
# Zero-width signs, byte order marks, NUL, variation selectors, letters that fill a place.
_UNSEEN = regex.compile(r"[[\p{Cf}\p{Cc}\p{Default_Ignorable_Code_Point}\u2800]--\s]", regex.V1)
_LONGEST = 1000  # characters of an identity that count


def normalize_identity(value: Any) -> str | None:
    """Return the canonical form of an identity; None for a missing value, and for what is no identity.

    Strings are in normal form KC, without invisible characters, with single spaces between words and none around. A
    number without a fraction is its integer, whatever its type, also where it is written in a string. A moment is its
    time in UTC, at midnight its date. Bytes are the text that they encode, or else a UUID or their digits.
    """
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        value = _unwrap_scalar(value)
    match value:
        case str():
            return _normalize_string(value)
        case bytes() | bytearray() | memoryview():
            return _normalize_bytes(bytes(value))
        case bool():
            return str(value).lower()
        case int():
            return _normalize_integer(int(value))  # a member of an enumeration, too
        case float() | decimal.Decimal():
            return _normalize_number(value)
        case uuid.UUID():
            return str(value)
        case datetime.datetime():
            return _normalize_moment(value)
        case datetime.date():
            return value.isoformat()
        case _:
            return None


def describe_identity(value: Any) -> str | None:
    """Say what a cell is that is no identity though it holds something; None for any other cell."""
    if normalize_identity(value) is not None or value is None or isinstance(value, str | bytes):
        return None
    if isinstance(value, float | decimal.Decimal):
        return None if value != value else "numbers with fractions"
    if isinstance(value, dict):
        return "objects"
    return "lists" if isinstance(value, list | tuple) else None


def _unwrap_scalar(value: Any) -> Any:
    """Return a scalar of numpy as one of Python; without its unit, a time in nanoseconds would be a number."""
    return (value.astype("datetime64[us]") if value.dtype.kind == "M" else value).item()


def _normalize_bytes(value: bytes) -> str | None:
    with suppress(UnicodeDecodeError):
        return _normalize_string(value.decode())
    return str(uuid.UUID(bytes=value)) if len(value) == 16 else value[:_LONGEST].hex()


def _normalize_string(value: str) -> str | None:
    text = value[:_LONGEST]
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFKC", _UNSEEN.sub("", text))
        text = "".join(str(unicodedata.decimal(sign, sign)) for sign in _UNSEEN.sub("", text))
    text = " ".join(text.split())
    if uuid_match := _UUID.fullmatch(text):
        return str(uuid.UUID(uuid_match[1]))
    if _SCIENTIFIC.fullmatch(text):
        return _normalize_number(decimal.Decimal(text)) or text
    if (number := _WHOLE_NUMBER.fullmatch(text)) and not _has_leading_zero(text):
        sign = "-" if number[1] == "-" and number[2] != "0" else ""
        return sign + number[2]
    return (text.lower() if text.lower() in ("true", "false") else text) or None


def _has_leading_zero(text: str) -> bool:
    """Whether a string of digits has zeros before it, as codes have that are no numbers."""
    digits = text.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1] != "."


def _normalize_number(value: float | decimal.Decimal) -> str | None:
    with suppress(ValueError, OverflowError):  # what is not a number, and infinities
        if math.isfinite(value) and abs(value) < 10**_LONGEST and value == int(value):
            return _normalize_integer(int(value))
    return None


def _normalize_integer(value: int) -> str | None:
    return str(value) if abs(value) < 10**_LONGEST else None


def _normalize_moment(value: datetime.datetime) -> str | None:
    if value != value:  # a missing moment of a DataFrame differs from itself
        return None
    with suppress(OverflowError):  # at the ends of the calendar
        value = value if value.tzinfo is None else value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value.date().isoformat() if value.time() == datetime.time() else value.isoformat()
