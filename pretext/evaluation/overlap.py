"""How much a text repeats of a corpus: the longest run of words it shares, and the highest cosine of embeddings.

Knows nothing of what is private; whoever passes private texts in makes the answer private
(`pretext.evaluation.memorization`).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pretext.clients.nearest import find_nearest
from pretext.vectors import Embedder

Numbers = NDArray[np.int64]

_WORD = re.compile(r"\w+")
_ABSENT = -1  # ends a text, and stands for a word that no text of ours holds
_BLOCK_WORDS = 2**22  # of the corpus at once: memory does not grow with it
_BLOCK_TEXTS = 2**15  # embedded at once; below voting.APPROXIMATE_FROM, so that the search is exact


def longest_runs(texts: Sequence[str], corpus: Iterable[str]) -> Numbers:
    """For each text, the most words in a row that it shares with any one text of the corpus; shape (len(texts),).

    A word is a run of letters, digits and underscores, whatever its case; what stands between words does not count. In
    scripts without spaces a "word" is all that stands between two punctuation marks.

    Exact, by naming (Karp, Miller and Rosenberg 1972): equal runs of n words bear the same number, and a run of n + 1
    words is a pair of a run's number and a word. Runs that the other side lacks are left behind at every step. Memory
    is that of the texts and of one block of the corpus.
    """
    vocabulary: dict[str, int] = {}
    ours = _number_words(texts, lambda word: vocabulary.setdefault(word, len(vocabulary)))
    longest = np.zeros(len(texts), np.int64)
    for block in _split_blocks(corpus):
        theirs = _number_words(block, lambda word: vocabulary.get(word, _ABSENT))
        _raise_to_shared(longest, ours, theirs, len(vocabulary))
    return longest


def highest_cosines(texts: Sequence[str], corpus: Iterable[str], embed: Embedder) -> NDArray[np.float32]:
    """For each text, the cosine of its nearest text of the corpus; shape (len(texts),), -1 for an empty corpus."""
    points, highest = embed(texts), np.full(len(texts), -1, np.float32)
    rest = iter(corpus)
    while block := list(islice(rest, _BLOCK_TEXTS)):
        rows = embed(block)
        found = find_nearest(rows, points, 1)[:, 0]
        np.maximum(highest, np.einsum("ij,ij->i", points, rows[found]), out=highest)
    return highest


def _raise_to_shared(longest: Numbers, ours: NDArray[np.int32], theirs: NDArray[np.int32], words: int) -> None:
    """Raise each text's longest run, in place, to what it shares with the block `theirs`."""
    owner = np.cumsum(ours == _ABSENT)  # of each place, the number of its text
    here, there = np.flatnonzero(ours != _ABSENT), np.flatnonzero(theirs != _ABSENT)
    names_here, names_there = ours[here].astype(np.int64), theirs[there].astype(np.int64)
    length, names = 1, words
    while len(there):
        shared = np.zeros(names, bool)
        shared[names_there] = True
        kept = shared[names_here]
        here, names_here = here[kept], names_here[kept]
        longest[owner[here]] = np.maximum(longest[owner[here]], length)
        here, pairs_here = _extend_runs(ours, here, names_here, length, words)
        there, pairs_there = _extend_runs(theirs, there, names_there, length, words)
        pairs, names_here = np.unique(pairs_here, return_inverse=True)
        there, names_there = _match_pairs(pairs, there, pairs_there)
        length, names = length + 1, len(pairs)


def _extend_runs(
    text: NDArray[np.int32], places: Numbers, names: Numbers, length: int, words: int
) -> tuple[Numbers, Numbers]:
    """The runs that go on: where they begin, and the pair of their name and their next word, as one number."""
    following = text[places + length].astype(np.int64)  # within: every text ends with _ABSENT
    kept = following != _ABSENT
    return places[kept], names[kept] * words + following[kept]


def _match_pairs(pairs: Numbers, places: Numbers, wanted: Numbers) -> tuple[Numbers, Numbers]:
    """The places whose pair is one of the sorted `pairs`, and its number there."""
    if not len(pairs):
        return places[:0], wanted[:0]
    names = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    kept = pairs[names] == wanted
    return places[kept], names[kept]


def _number_words(texts: Iterable[str], number: Callable[[str], int]) -> NDArray[np.int32]:
    """The words of all texts as numbers, each text with _ABSENT behind it."""
    numbers = array("i")
    for text in texts:
        numbers.extend(map(number, _WORD.findall(text.casefold())))
        numbers.append(_ABSENT)
    return np.frombuffer(numbers, np.int32) if numbers else np.empty(0, np.int32)


def _split_blocks(corpus: Iterable[str]) -> Iterator[list[str]]:
    """Texts of about `_BLOCK_WORDS` words together, a word counted as six characters."""
    block: list[str] = []
    size = 0
    for text in corpus:
        block.append(text)
        size += len(text)
        if size > 6 * _BLOCK_WORDS:
            yield block
            block, size = [], 0
    if block:
        yield block
