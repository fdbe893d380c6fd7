"""Screening: a text is kept, or dropped with a reason. Public post-processing; the reasons are counted.

Texts with identifiers of people are dropped unless `screening.identifiers` says otherwise. The guarantee does not need
it: a synthetic phone number is no leak of private data. But it may ring somewhere, as the language model or the public
texts may know it, and then it harms somebody and embarrasses whoever released it; what it costs is small (of 57,696
public encyclopedia, blog and medical texts 32 are dropped). Where such numbers are the style of the domain, as in
logs of servers, switch it off; the preset icml2024 does, as the paper had no such rule. Texts are dropped and not
masked, so that nothing is written that no model wrote. Languages are not judged by default: identification is a guess,
wrong for short texts above all.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable

from pretext.config.settings import Screening
from pretext.prompts import has_prompt_leak
from pretext.screening.identifiers import find_identifiers
from pretext.screening.language import guess_language

MAX_SCREENED_CHARACTERS = 10_000
"""Characters; whatever the engine, no kept text is longer."""


class BloomFilter:
    """A set of texts that takes the same memory however many there are: a Bloom filter with ten hash functions.

    A text that was added is never new again. Another one is taken for known with chance (1 - exp(-10 n / bits))^10:
    at the default 2^27 bits (16 MiB) 2.6e-9 with n = 2,000,000 texts, 1.3e-6 with 4,000,000.
    Texts that differ in case and white space only are the same.

    Args:
        bits: a power of two, at most 2^32.
    """

    def __init__(self, bits: int = 2**27) -> None:
        self._mask = bits - 1
        self._bits = bytearray(bits // 8)

    def add(self, text: str) -> bool:
        """Add a text; whether it was new."""
        new = False
        for place in self._bit_positions(text):
            bit = 1 << (place & 7)
            new |= not self._bits[place >> 3] & bit
            self._bits[place >> 3] |= bit
        return new

    def _bit_positions(self, text: str) -> list[int]:
        key = " ".join(text.casefold().split()).encode(errors="replace")
        return [number & self._mask for number in struct.unpack("10I", hashlib.blake2b(key, digest_size=40).digest())]


class Screen:
    """Keeps what is a text of its own; the memory it takes does not grow with the texts.

    Attributes:
        dropped: how many texts were dropped, by reason.
    """

    def __init__(self, rules: Screening, known: Iterable[str] = ()) -> None:
        self._rules = rules
        self._known = BloomFilter()
        for text in known:
            self._known.add(text)
        self.dropped: Counter[str] = Counter()

    @property
    def max_words(self) -> int:
        """Words of the longest text that may pass."""
        return self._rules.max_words

    def keep(self, text: str | None) -> bool:
        """Whether the text stays; if not, its reason is counted."""
        reason = self._drop_reason(text) or (None if self._known.add(text or "") else "duplicate")
        if reason is not None:
            self.dropped[reason] += 1
        return reason is None

    def _drop_reason(self, text: str | None) -> str | None:
        """Why the text must go whatever else is known, or None."""
        if text is None:
            return "no answer"
        words = len(text.split())
        if words == 0:
            return "empty"
        if words < self._rules.min_words:
            return "too short"
        if words > self._rules.max_words or len(text) > MAX_SCREENED_CHARACTERS:
            return "too long"
        if has_prompt_leak(text):
            return "prompt leak"
        return self._content_reason(text)

    def _content_reason(self, text: str) -> str | None:
        """Why a text of the right form is not for release, or None."""
        rules = self._rules
        found = next(find_identifiers(text, rules.phone_region), None) if rules.identifiers else None
        if found is None and rules.languages and guess_language(text) not in rules.languages:
            return "other language"
        return found
