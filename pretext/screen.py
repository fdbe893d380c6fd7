"""Screening: a text is kept, or dropped with a reason. Public post-processing; the reasons are counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from pretext.config import Screening
from pretext.prompts import leaks

LONGEST_TEXT = 10_000
"""Characters; whatever the engine, no kept text is longer."""


class Screen:
    """Keeps what is a text of its own; remembers what it kept as 16-byte digests.

    Attributes:
        dropped: how many texts were dropped, by reason.
    """

    def __init__(self, rules: Screening, known: Iterable[str] = ()) -> None:
        self._rules = rules
        self._known = {_key(text) for text in known}
        self.dropped: Counter[str] = Counter()

    def keep(self, text: str | None) -> bool:
        """Whether the text stays; if not, its reason is counted."""
        reason = self.reason(text)
        if reason is not None:
            self.dropped[reason] += 1
            return False
        self._known.add(_key(text or ""))
        return True

    def reason(self, text: str | None) -> str | None:
        """Why the text must go, or None."""
        if text is None:
            return "no answer"
        words = len(text.split())
        if words == 0:
            return "empty"
        if words < self._rules.min_words:
            return "too short"
        if words > self._rules.max_words or len(text) > LONGEST_TEXT:
            return "too long"
        if leaks(text):
            return "prompt leak"
        return "duplicate" if _key(text) in self._known else None


def _key(text: str) -> bytes:
    """Texts that differ in case and white space only are the same."""
    return hashlib.blake2b(" ".join(text.casefold().split()).encode(errors="replace"), digest_size=16).digest()
