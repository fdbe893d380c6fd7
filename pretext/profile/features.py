"""The public features of a text: its word n-grams, with start and end, its length, and its marks.

Words are cased runs of letters and digits, with the apostrophes inside them; every other visible character is a word of
its own. Scripts that are written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) count each character,
with the marks on it, as a word, so that their n-grams are n-grams of characters. A text has a feature or has it not,
however often.

    "^ I want"    the text begins with "I want"      "? $"        it ends with a question mark
    "a table"     it holds that pair of words        "#length 7"  2^(7/2) to 2^(8/2) words
    "#lower"      it has no capital letter           "#digits"    it holds a digit
"""

from __future__ import annotations

import math
from typing import Final

import regex

START, END = "^", "$"
LONGEST = 3
"""Words of the longest n-gram."""

_LENGTHS = 16  # the last one holds everything from 181 words on
MARKS: Final = (
    *(f"#length {number}" for number in range(_LENGTHS)),
    *("#lower", "#capital", "#digits", "#lines", "#exclamation"),
)
"""All features that are no n-grams."""

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(
    rf"[{_UNSPACED}]\p{{M}}*|(?:(?![{_UNSPACED}])[\p{{L}}\p{{N}}]\p{{M}}*)+(?:['’](?:[\p{{L}}\p{{N}}]\p{{M}}*)+)*|\S",
)


def split_words(text: str) -> list[str]:
    """Split a text into its words, see above."""
    words: list[str] = _WORD.findall(text)
    return words


def text_features(text: str) -> set[str]:
    """Return the features of a text; time and memory are linear in its length."""
    words = split_words(text)
    bounded = [START, *words, END]
    features = {
        " ".join(bounded[first : first + length])
        for length in range(1, LONGEST + 1)
        for first in range(len(bounded) - length + 1)
    }
    features -= {START, END, f"{START} {END}"}
    return features | set(_marks(text, len(words)))


def read_start(feature: str) -> tuple[str, ...]:
    """Return the words with which a feature says that a text begins; none if it says something else.

    Only words of letters and digits count: what begins with a quotation mark is not a start that a generator can be
    given.
    """
    first, *words = feature.split(" ")
    if first != START or not words or END in words:
        return ()
    return tuple(words) if all(word[0].isalnum() for word in words) else ()


def _marks(text: str, words: int) -> list[str]:
    marks = {
        f"#length {min(math.floor(2 * math.log2(words)), _LENGTHS - 1) if words else 0}": True,
        "#lower": text == text.lower(),
        "#capital": text[:1].isupper(),
        "#digits": any(map(str.isdigit, text)),
        "#lines": "\n" in text,
        "#exclamation": "!" in text,
    }
    return [mark for mark, true in marks.items() if true]
