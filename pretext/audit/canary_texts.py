"""Invented texts and models that cost nothing, so that a whole run can be repeated hundreds of times."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretext.prompts import HEADER, Prompt
from pretext.vectors import normalize_rows

_SUBJECTS = ["the printer", "my laptop", "our router", "the kitchen scale", "a borrowed bicycle", "the attic window"]
_VERBS = ["stopped working", "started to rattle", "lost its cover", "was repaired", "went missing", "came back"]
_TIMES = ["after the last update", "on a rainy monday", "during the holidays", "before lunch", "since september"]
_ENDS = ["and nobody knows why", "so we called a friend", "which was a relief", "but the warranty is over"]
_WORDS = sorted({word for parts in (_SUBJECTS, _VERBS, _TIMES, _ENDS) for part in parts for word in part.split()})


@dataclass(frozen=True)
class HashEmbedder:
    """A bag of hashed words, in at most 256 dimensions; texts that share words are near each other."""

    dimensions: int = 32

    def __call__(self, texts: Sequence[str], *, announce: str | None = None) -> NDArray[np.float32]:
        """See `pretext.vectors.Embedder`."""
        rows = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.casefold()):
                digest = hashlib.blake2b(word.encode(errors="replace"), digest_size=8).digest()
                rows[row, digest[0] % self.dimensions] += 1 if digest[1] % 2 else -1
        return normalize_rows(rows)


def edit_sample(prompt: Prompt, rng: np.random.Generator) -> str:
    """Return the prompt's last sample with one word exchanged; a script for `ScriptedEngine`."""
    samples = [part.split("\n", 1)[-1].strip() for part in prompt.text.split(HEADER)]
    words = next((sample for sample in reversed(samples) if sample), "some plain words").split()
    words[int(rng.integers(len(words)))] = str(rng.choice(_WORDS))
    return " ".join(words)


def invent_sentences(count: int, rng: np.random.Generator) -> list[str]:
    """Return different natural sentences, at most 720."""
    places = rng.permutation(len(_SUBJECTS) * len(_VERBS) * len(_TIMES) * len(_ENDS))[:count]
    shape = (len(_SUBJECTS), len(_VERBS), len(_TIMES), len(_ENDS))
    return [
        " ".join((_SUBJECTS[a], _VERBS[b], _TIMES[c], _ENDS[d]))
        for a, b, c, d in zip(*np.unravel_index(places, shape), strict=True)
    ]


def invent_nonces(count: int, rng: np.random.Generator) -> list[str]:
    """Return texts of eight random words each, which no model and no public text can have known."""
    return [" ".join(rng.bytes(4).hex() for _ in range(8)) for _ in range(count)]
