"""The public features of a text: its word n-grams, with start and end, its length, and its marks.

Words are those between the default word boundaries of Unicode (UAX #29), as `regex` finds them, with their case, in
normal form C. A run of letters and digits is a word, with the apostrophes and points inside it; any other visible
character is a word of its own. Of the scripts that are written without spaces, Chinese, Hiragana, Thai, Lao, Khmer and
Burmese count each character as a word, so that their n-grams are n-grams of characters; Katakana counts runs. A text
has a feature or has it not, however often.

    "<s> I want"   the text begins with "I want"      "? </s>"       it ends with a question mark
    "a table"      it holds that pair of words        "#length 7"    it has 2^(7/2) to 2^(8/2) words
    "#lower"       it has no capital letter           "#digits"      it holds a digit

No word can be one of these marks: it would be divided before or after its first sign.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import regex

START, END = "<s>", "</s>"
_LENGTHS = 16  # the last one holds everything from 181 words on
MARKS: Final = (
    *(f"#length {number}" for number in range(_LENGTHS)),
    *("#lower", "#upper", "#capital", "#open", "#digits", "#lines", "#exclamation"),
)
"""All features that are no n-grams."""

_BOUNDARY = regex.compile(r"\b", regex.WORD | regex.VERSION1)
_UNSPACED = regex.compile(r"\p{Ideographic}|\p{Hiragana}|\p{Katakana}|\p{Line_Break=Complex_Context}")
_LONGEST_WORD = 64
"""Characters that count of a word: a feature stays short, and normalizing takes linear time."""
_PART = 4096
"""Characters that are searched for boundaries at once: a row of flags takes quadratic time."""


def tokenize(text: str) -> list[str]:
    """Split a text into its words, see above. None is empty or holds a space."""
    parts = (text[first : first + _PART] for first in range(0, len(text), _PART))
    words = [word[:_LONGEST_WORD] for part in parts for piece in _BOUNDARY.split(part) if (word := piece.strip())]
    return words if text.isascii() else [unicodedata.normalize("NFC", word) for word in words]


def join_words(words: Sequence[str]) -> str:
    """Join words to a text, without spaces between words of scripts that have none."""
    joined = "".join(words[:1])
    for before, word in pairwise(words):
        joined += word if _UNSPACED.match(before) and _UNSPACED.match(word) else f" {word}"
    return joined


def text_features(text: str) -> set[str]:
    """Return the features of a text; time and memory are linear in its length."""
    words = tokenize(text)
    bounded = [START, *words, END]
    features = set(words)
    features.update(map(" ".join, pairwise(bounded)))
    features.update(map(" ".join, zip(bounded, bounded[1:], bounded[2:], strict=False)))
    features.discard(f"{START} {END}")
    features.update(_marks(text, words))
    return features


def read_start(feature: str) -> tuple[str, ...]:
    """Return the words with which a feature says that a text begins; none if it says something else.

    Only words that begin with a letter or digit count: a quotation mark is no start that a generator can be given.
    """
    first, *words = feature.split(" ")
    if first != START or END in words:
        return ()
    return tuple(words) if all(word[:1].isalnum() for word in words) else ()


def _marks(text: str, words: list[str]) -> list[str]:
    marks = {
        f"#length {min(math.floor(2 * math.log2(len(words))), _LENGTHS - 1) if words else 0}": True,
        "#lower": text == text.lower(),
        "#upper": text.isupper(),
        "#capital": text.lstrip()[:1].isupper(),
        "#open": bool(words) and words[-1][-1].isalnum(),
        "#digits": any(map(str.isdigit, text)),
        "#lines": "\n" in text.strip(),
        "#exclamation": "!" in text,
    }
    return [mark for mark, true in marks.items() if true]
