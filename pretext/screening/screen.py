"""Keep a text, or drop it and count the reason. Public post-processing.

By default (`screening.identifiers`), texts with identifiers of people are dropped. The guarantee does not need this: a
synthetic phone number is no leak of private data. But the language model or the public texts may know it, so it may
ring somewhere; then it harms somebody and embarrasses whoever released it. The rule costs little: it drops 32 of 57,696
public encyclopedia, blog and medical texts. Switch it off where such numbers are the style of the domain, as in server
logs; the preset icml2024 does so too, because the paper had no such rule. Texts are dropped and not masked, so every
word of the output comes from a model. By default, languages are not checked: identification is a guess, and mostly
wrong for short texts.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable

from pretext.answers import find_leftover
from pretext.config.settings import Screening
from pretext.prompts import has_prompt_leak
from pretext.screening.identifiers import find_identifiers
from pretext.screening.language import guess_language
from pretext.screening.refusals import is_refusal
from pretext.texts import count_words, is_usable_text

MAX_SCREENED_CHARACTERS = 10_000
"""Characters; longer texts are dropped, whatever engine wrote them."""


class BloomFilter:
    """A set of texts in constant memory: a Bloom filter with ten hash functions.

    A text that was added is never new again. A new text is taken for known with probability (1 - exp(-10 n / bits))^10:
    at the default of 2^27 bits (16 MiB), 2.6e-9 with n = 2,000,000 texts and 1.3e-6 with 4,000,000. Texts that differ
    only in case and white space are the same.

    Args:
        bits: a power of two, at most 2^32.
    """

    def __init__(self, bits: int = 2**27) -> None:
        self._mask = bits - 1
        self._bits = bytearray(bits // 8)

    def add(self, text: str) -> bool:
        """Add a text; return whether it was new."""
        key = " ".join(text.casefold().split()).encode(errors="replace")
        new = False
        for number in struct.unpack("10I", hashlib.blake2b(key, digest_size=40).digest()):
            position = number & self._mask
            bit = 1 << (position & 7)
            new |= not self._bits[position >> 3] & bit
            self._bits[position >> 3] |= bit
        return new


class Screen:
    """Keeps acceptable texts that are not duplicates, in memory that does not grow with their number.

    Args:
        rules: what an acceptable text is.
        known: texts whose duplicates are dropped.

    Attributes:
        dropped: number of dropped texts, by reason.
    """

    def __init__(self, rules: Screening, known: Iterable[str] = ()) -> None:
        self._rules = rules
        self._known = BloomFilter()
        for text in known:
            self._known.add(text)
        self.dropped: Counter[str] = Counter()

    @property
    def max_words(self) -> int:
        """Words of the longest text that passes."""
        return self._rules.max_words

    def keep(self, text: str | None) -> bool:
        """Return whether the text passes; if not, count the reason."""
        reason = self._find_drop_reason(text) or (None if self._known.add(text or "") else "duplicate")
        if reason is not None:
            self.dropped[reason] += 1
        return reason is None

    def _find_drop_reason(self, text: str | None) -> str | None:
        """Find why the text is dropped, duplicates aside; None if it passes."""
        if text is None:
            return "no answer"
        if not is_usable_text(text):
            return "empty"
        if leftover := find_leftover(text[:MAX_SCREENED_CHARACTERS]):
            return leftover
        if is_refusal(text):
            return "refusal"
        if len(text) > MAX_SCREENED_CHARACTERS:
            return "too long"
        words = count_words(text)
        if words < self._rules.min_words:
            return "too short"
        if words > self._rules.max_words:
            return "too long"
        if has_prompt_leak(text):
            return "prompt leak"
        return self._find_content_reason(text)

    def _find_content_reason(self, text: str) -> str | None:
        """Find why the content of a text of the right form is dropped; None if it passes."""
        rules = self._rules
        identifier = next(find_identifiers(text, rules.phone_region), None) if rules.identifiers else None
        if identifier is None and rules.languages and guess_language(text) not in rules.languages:
            return "other language"
        return identifier
