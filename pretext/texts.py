"""Which values are texts, what counts as a word, and a uniform sample of a stream of texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final, Generic, TypeGuard, TypeVar

Item = TypeVar("Item")

# Scripts that write no spaces between words. Of the first, a character is about a word; of the second, about four are.
_IDEOGRAPHS = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_SYLLABLES = "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"
UNSPACED: Final = _IDEOGRAPHS + _SYLLABLES
"""Letters of scripts without spaces, as they stand between the brackets of a regular expression."""
_UNSPACED = re.compile(f"[{UNSPACED}]")
_WORD = re.compile(rf"[{_IDEOGRAPHS}][^\w\s]*|[{_SYLLABLES}]{{1,4}}[^\w\s]*|[^\s{UNSPACED}]+")

_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and a symbol that show nothing
_BLANK_CATEGORIES = frozenset(("Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Mn", "Mc", "Me"))


def is_usable_text(value: Any) -> TypeGuard[str]:
    """Decide whether a cell holds a text: a string with a character that can be seen.

    The same rule for private and public texts. White space, control and format characters (zero-width spaces and
    joiners), combining marks alone and lone surrogates show nothing.
    """
    return isinstance(value, str) and any(
        unicodedata.category(sign) not in _BLANK_CATEGORIES and sign not in _BLANK_LETTERS for sign in value
    )


def split_words(text: str) -> list[str]:
    """Split a text into words: what stands between white space.

    In scripts that write no spaces between words, a Chinese or Japanese character is a word, and so are four
    characters of Thai, Lao, Tibetan, Burmese or Khmer: an estimate that needs no dictionary.
    """
    return _WORD.findall(text) if _UNSPACED.search(text) else text.split()


def count_words(text: str) -> int:
    """Count the words of a text, as `split_words` splits it."""
    return len(split_words(text))


def cut_words(text: str, most: int) -> str:
    """Return the text without blanks around it, cut to its first `most` words.

    A cut text has single spaces between its words, unless its script has none.
    """
    if _UNSPACED.search(text):
        ends = [word.end() for word in islice(_WORD.finditer(text), most)]
        return text[: ends[-1] if ends else 0].strip()
    words = text.split()
    return text.strip() if len(words) <= most else " ".join(words[:most])


def describe_cell(value: Any) -> str | None:
    """Say in a noun what a cell holds in place of a text, without quoting it; None for a gap or a text."""
    if value is None or isinstance(value, str) or value != value:
        return None
    names = {bytes: "binary data", list: "lists", dict: "objects", bool: "truth values"}
    return names.get(type(value), "numbers or dates")


def explain_other_cells(column: str, kinds: Iterable[str]) -> str:
    """Say what a column holds in place of texts, by `describe_cell`."""
    return f"column {column!r} holds {' and '.join(sorted(kinds))}; name a column of texts"


class Reservoir(Generic[Item]):
    """A uniform sample of at most `size` items of a stream of any length, in one pass (Vitter 1985, algorithm R).

    Attributes:
        sample: the items drawn so far.
        seen: how many items were added.

    Args:
        size: items at most; 0 samples nothing.
        draw_below: n -> a uniform integer in [0, n). Private streams pass the operating system's entropy, public ones a
            seeded generator.
    """

    __slots__ = ("_draw_below", "_size", "sample", "seen")

    def __init__(self, size: int, draw_below: Callable[[int], int]) -> None:
        self.sample: list[Item] = []
        self.seen = 0
        self._size = size
        self._draw_below = draw_below

    def add(self, item: Item) -> None:
        """Take the next item of the stream."""
        self.seen += 1
        if len(self.sample) < self._size:
            self.sample.append(item)
        elif (slot := self._draw_below(self.seen)) < self._size:
            self.sample[slot] = item
