"""How much a text repeats of a corpus: the longest shared run of words, and the highest cosine of embeddings.

Nothing here knows which texts are private. Whoever passes private texts in makes the result private
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
from pretext.texts import UNSPACED
from pretext.vectors import Embedder

Numbers = NDArray[np.int64]

_WORD = re.compile(rf"[^\W{UNSPACED}]+|[{UNSPACED}]")
_ABSENT = -1  # ends a text, and stands for a word of the corpus that no text holds
_BLOCK_WORDS = 2**22  # of the corpus at once, so that memory does not grow with it
_BLOCK_TEXTS = 2**15  # embedded at once; below `nearest.APPROXIMATE_FROM`, so that the search is exact


def longest_runs(texts: Sequence[str], corpus: Iterable[str]) -> Numbers:
    """Return the most words in a row that each text shares with any one text of the corpus; shape (len(texts),).

    A word is a run of letters, digits and underscores, in any case; what stands between words does not count. In
    scripts without spaces every character is a word.

    Exact, by naming (Karp, Miller and Rosenberg 1972): equal runs of n words have the same number, and a run of n + 1
    words is a pair of a run's number and a word. Every step drops the runs that the other side lacks. Memory holds the
    texts and one block of the corpus.
    """
    vocabulary: dict[str, int] = {}
    numbered = _number_words(texts, lambda word: vocabulary.setdefault(word, len(vocabulary)))
    longest = np.zeros(len(texts), np.int64)
    for block in _split_blocks(corpus):
        numbered_block = _number_words(block, lambda word: vocabulary.get(word, _ABSENT))
        _raise_to_shared(longest, numbered, numbered_block, len(vocabulary))
    return longest


def highest_cosines(texts: Sequence[str], corpus: Iterable[str], embed: Embedder) -> NDArray[np.float32]:
    """Return the cosine of each text's nearest text of the corpus; shape (len(texts),), -1 for an empty corpus."""
    points, highest = embed(texts), np.full(len(texts), -1, np.float32)
    rest = iter(corpus)
    while block := list(islice(rest, _BLOCK_TEXTS)):
        rows = embed(block)
        nearest = rows[find_nearest(rows, points, 1)[:, 0]]
        np.maximum(highest, np.einsum("ij,ij->i", points, nearest), out=highest)
    return highest


def _raise_to_shared(longest: Numbers, texts: NDArray[np.int32], block: NDArray[np.int32], words: int) -> None:
    """Raise each text's longest run, in place, to what it shares with a block of the corpus."""
    owner = np.cumsum(texts == _ABSENT)  # of each place, the number of its text
    text_places, block_places = np.flatnonzero(texts != _ABSENT), np.flatnonzero(block != _ABSENT)
    text_names, block_names = texts[text_places].astype(np.int64), block[block_places].astype(np.int64)
    length, names = 1, words
    while len(block_places):
        is_in_block = np.zeros(names, bool)
        is_in_block[block_names] = True
        shared = is_in_block[text_names]
        text_places, text_names = text_places[shared], text_names[shared]
        longest[owner[text_places]] = np.maximum(longest[owner[text_places]], length)
        text_places, text_pairs = _extend_runs(texts, text_places, text_names, length, words)
        block_places, block_pairs = _extend_runs(block, block_places, block_names, length, words)
        pairs, text_names = np.unique(text_pairs, return_inverse=True)
        block_places, block_names = _match_pairs(pairs, block_places, block_pairs)
        length, names = length + 1, len(pairs)


def _extend_runs(
    text: NDArray[np.int32], places: Numbers, names: Numbers, length: int, words: int
) -> tuple[Numbers, Numbers]:
    """Return where runs that go on begin, and the pair of their name and their next word, as one number."""
    following = text[places + length].astype(np.int64)  # within: every text ends with _ABSENT
    goes_on = following != _ABSENT
    return places[goes_on], names[goes_on] * words + following[goes_on]


def _match_pairs(pairs: Numbers, places: Numbers, wanted: Numbers) -> tuple[Numbers, Numbers]:
    """Return the places whose wanted pair is one of the sorted `pairs`, and its number there."""
    if not len(pairs):
        return places[:0], wanted[:0]
    names = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    matches = pairs[names] == wanted
    return places[matches], names[matches]


def _number_words(texts: Iterable[str], number: Callable[[str], int]) -> NDArray[np.int32]:
    """Number the words of all texts; each text ends with _ABSENT."""
    numbers = array("i")
    for text in texts:
        numbers.extend(map(number, _WORD.findall(text.casefold())))
        numbers.append(_ABSENT)
    return np.frombuffer(numbers, np.int32) if numbers else np.empty(0, np.int32)


def _split_blocks(corpus: Iterable[str]) -> Iterator[list[str]]:
    """Group the corpus into blocks of about `_BLOCK_WORDS` words, a word counted as six characters."""
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
