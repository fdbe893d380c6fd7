"""The vocabulary of a profile: which features are counted. It is made of public text alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from pretext.errors import UsageError
from pretext.profile.features import MARKS, START, text_features
from pretext.texts import Reservoir

_GENERAL_SHARE, _GENERAL_STARTS = 1 / 6, 1 / 6
"""Shares of a vocabulary for general words, and for starts with them, that the pool need not have: what the pool lacks
must be asked for too."""

_COUNTED = 50_000  # texts of the pool whose features are counted; more would only cost memory
_LEAST_COUNT = 3  # texts of the pool that have a feature; rarer ones cannot be weighed by it
_CLIP_SAMPLE = 400
_CLIP_QUANTILE = 0.5  # clients of few or short texts are below it; the bound scales longer ones down


@dataclass(frozen=True)
class Vocabulary:
    """The features that are counted, in the order of their coordinates."""

    features: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the features and their order."""
        return hashlib.sha256("\n".join(self.features).encode(errors="surrogatepass")).hexdigest()

    def matrix(self, texts: Iterable[str]) -> scipy.sparse.csr_array:
        """Mark which text has which feature: 1 or 0, float32, shape (texts, features)."""
        ends, columns = [0], list[int]()
        places = self._places
        for text in texts:
            columns += sorted(places[feature] for feature in places.keys() & text_features(text))
            ends.append(len(columns))
        shape = (len(ends) - 1, len(self.features))
        return scipy.sparse.csr_array(
            (np.ones(len(columns), np.float32), np.array(columns, np.int64), np.array(ends, np.int64)), shape=shape
        )

    @cached_property
    def _places(self) -> dict[str, int]:
        return {feature: place for place, feature in enumerate(self.features)}


def build_vocabulary(pool: Iterable[str], general_words: Sequence[str], size: int) -> Vocabulary:
    """Choose at most `size` features: marks, general words and starts, then the most common features of the pool.

    Args:
        pool: public texts; of more than 50,000 a sample is counted.
        general_words: public words, the most common first; may be empty.
        size: largest number of features.

    Raises:
        UsageError: the vocabulary or the pool is too small for more than marks.
    """
    counts = Counter[str]()
    for text in _sample(pool, _COUNTED):
        counts.update(text_features(text))
    starts = (f"{START} {case}" for word in general_words for case in dict.fromkeys([word, word.capitalize()]))
    chosen = dict.fromkeys(
        [*MARKS, *general_words[: int(_GENERAL_SHARE * size)], *islice(starts, int(_GENERAL_STARTS * size))]
    )
    common = sorted(
        (feature for feature, count in counts.items() if count >= _LEAST_COUNT and feature not in chosen),
        key=lambda feature: (-counts[feature], feature),
    )
    if size <= len(MARKS) or not common:
        raise UsageError(
            f"A vocabulary of {size} features from this pool holds no words; give a larger profile.features, or more "
            "public texts or prompts."
        )
    chosen |= dict.fromkeys(common)
    return Vocabulary(tuple(islice(chosen, size)))


def public_clip(vocabulary: Vocabulary, texts: Sequence[str], texts_per_client: int) -> float:
    """Compute the L2 norm that the summed features of a typical client have, from public texts.

    It is the median over invented clients of `texts_per_client` texts, drawn at random. It only divides the bound of a
    client between its features and the rest, and never looks at private texts.
    """
    rng = np.random.default_rng(0)
    sample = rng.permutation(len(texts))[: _CLIP_SAMPLE * texts_per_client]
    marks = vocabulary.matrix(texts[row] for row in sample)
    norms = [_norm_of_sum(marks[first : first + texts_per_client]) for first in range(0, len(sample), texts_per_client)]
    return float(max(np.quantile(norms, _CLIP_QUANTILE), 1.0))


def _sample(pool: Iterable[str], size: int) -> list[str]:
    reservoir = Reservoir[str](size, np.random.default_rng(0).integers)
    for text in pool:
        reservoir.add(text)
    return reservoir.sample


def _norm_of_sum(rows: scipy.sparse.csr_array) -> float:
    total: NDArray[np.float32] = rows.sum(axis=0)
    return float(np.linalg.norm(total))
