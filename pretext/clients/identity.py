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
from typing import Any

_WHOLE_NUMBER = re.compile(r"([+-]?)0*(\d+?)(?:\.0*)?", re.ASCII)
_LONGEST = 1000  # characters of an identity that count


def normalize_identity(value: Any) -> str | None:
    """Return the canonical form of an identity; None for a missing value, and for what is no identity.

    Strings are in normal form C, without format characters and without white space around them. A number without a
    fraction is its integer, whatever its type, also where it is written in a string. A moment is its time in UTC, at
    midnight its date.
    """
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "ndim", None) == 0:  # a scalar of numpy
        value = item()
    match value:
        case str():
            return _normalize_string(value)
        case bytes():
            return _normalize_string(value.decode(errors="surrogateescape"))
        case bool():
            return str(value).lower()
        case int():
            return _normalize_integer(value)
        case float() | decimal.Decimal():
            return _normalize_integer(int(value)) if math.isfinite(value) and value == int(value) else None
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
        return None if math.isnan(value) else "numbers with fractions"
    if isinstance(value, dict):
        return "objects"
    return "lists" if isinstance(value, list | tuple) else None


def _normalize_string(value: str) -> str | None:
    visible = "".join(sign for sign in value[:_LONGEST] if unicodedata.category(sign) != "Cf")
    text = unicodedata.normalize("NFC", visible).strip()
    if (number := _WHOLE_NUMBER.fullmatch(text)) and not _has_leading_zero(text):
        sign = "-" if number[1] == "-" and number[2] != "0" else ""
        return sign + number[2]
    return (text.lower() if text.lower() in ("true", "false") else text) or None


def _has_leading_zero(text: str) -> bool:
    """Whether a string of digits has zeros before it, as codes have that are no numbers."""
    digits = text.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1] != "."


def _normalize_integer(value: int) -> str | None:
    return str(value) if abs(value) < 10**_LONGEST else None


def _normalize_moment(value: datetime.datetime) -> str | None:
    if value != value:  # a missing moment of a DataFrame differs from itself
        return None
    if value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value.date().isoformat() if value.time() == datetime.time() else value.isoformat()
