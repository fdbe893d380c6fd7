"""Variation by a masked language model, PrE-Text's own: hide a share of a text's tokens and sample them anew. Public.

The paper (arXiv 2406.02958) refills one token per forward pass, on rows padded to the maximum. Here rows of like length
share a pass, several tokens of a row may be refilled in one (`variation.masks_per_pass`; 1 is the paper's way), and the
vocabulary is scored at those positions alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretext.config.settings import Variation
from pretext.evolution.word_pieces import splice_word_pieces
from pretext.models.masked_lm import MaskedLM
from pretext.progress import show_progress
from pretext.run.records import Candidate


@dataclass(frozen=True)
class _MaskedText:
    """One text on its way: token ids as given and, changed in place, as they are now; where each token stands in the
    text; which of them may be hidden; and the text's own randomness."""

    text: str
    original_ids: NDArray[np.int64]
    ids: NDArray[np.int64]
    spans: Sequence[tuple[int, int]]
    maskable: NDArray[np.int64]
    rng: np.random.Generator


@dataclass(frozen=True)
class _Pass:
    """What a forward pass refills: row and column of each position, and a uniform number to draw its token with."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    uniforms: NDArray[np.float32]


class MaskFill:
    """PrE-Text's variation with any Hugging Face masked language model.

    The share is taken per text; special, added and unused tokens are never hidden nor sampled; texts are cut to
    `variation.max_tokens`, special tokens included. Each text has randomness of its own, so the rest of its batch
    changes its logits by rounding at most.

    Args:
        model: the masked language model.
        variation: share, passes, temperature and length.
        batch_size: texts of full length in a forward pass.

    Raises:
        UsageError: the model does not take texts of `variation.max_tokens`.
    """

    def __init__(self, model: MaskedLM, variation: Variation, batch_size: int) -> None:
        model.check_length(variation.max_tokens)
        self._model = model
        self._variation = variation
        self._batch_tokens = batch_size * variation.max_tokens

    def __call__(
        self, parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator
    ) -> list[str | None]:
        """See `pretext.evolution.variation.Variation`; the pool is not used."""
        rows = self._tokenize_rows([parent.text for parent in parents], rng)
        with show_progress("Refilling masked tokens", len(rows)) as advance:
            for batch in _batch_rows(rows, self._batch_tokens):
                for _ in range(self._variation.mask_passes):
                    self._refill(batch)
                advance(len(batch))
        return [self._decode_row(row) for row in rows]

    def _tokenize_rows(self, texts: list[str], rng: np.random.Generator) -> list[_MaskedText]:
        if not texts:
            return []
        encoded = self._model.tokenizer(
            texts,
            truncation=True,
            max_length=self._variation.max_tokens,
            split_special_tokens=True,
            return_offsets_mapping=self._model.has_word_pieces,
        )
        spans = encoded.get("offset_mapping", [[]] * len(texts))
        seeds = rng.integers(2**63, size=len(texts))
        return [self._make_row(*row) for row in zip(texts, encoded["input_ids"], spans, seeds, strict=True)]

    def _make_row(self, text: str, tokens: list[int], spans: list[tuple[int, int]], seed: int) -> _MaskedText:
        ids = np.array(tokens, np.int64)
        ordinary = np.flatnonzero(~np.isin(ids, self._model.excluded))
        return _MaskedText(text, ids.copy(), ids, spans, ordinary, np.random.default_rng(seed))

    def _refill(self, rows: Sequence[_MaskedText]) -> None:
        """Hide a share of every row's tokens and refill them, in as many passes as the row with most of them needs."""
        tokenizer = self._model.tokenizer
        ids, attention = _pad_rows([row.ids for row in rows], tokenizer.pad_token_id or 0)
        passes = _plan_passes(rows, self._variation.mask_share, self._variation.masks_per_pass)
        for step in passes:
            ids[step.rows, step.columns] = tokenizer.mask_token_id
        for step in passes:
            active, places = np.unique(step.rows, return_inverse=True)
            ids[step.rows, step.columns] = self._model.fill(
                ids[active], attention[active], (places, step.columns), step.uniforms, self._variation.temperature
            )
        for row, filled in zip(rows, ids, strict=True):
            row.ids[:] = filled[: len(row.ids)]

    def _decode_row(self, row: _MaskedText) -> str:
        """What the row reads as now; where word pieces have lost spaces and capitals, these come from the old text."""
        tokenizer = self._model.tokenizer
        if not self._model.has_word_pieces:
            return str(tokenizer.decode(row.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()
        given, now = (tokenizer.convert_ids_to_tokens(ids.tolist()) for ids in (row.original_ids, row.ids))
        return splice_word_pieces(row.text, row.spans, given, now)


def _batch_rows(rows: Sequence[_MaskedText], max_tokens: int) -> Iterator[list[_MaskedText]]:
    """Rows of like length, the longest first, as many as hold so many tokens with their padding, but at least one."""
    ordered = sorted(rows, key=lambda row: -len(row.ids))
    start = 0
    while start < len(ordered):
        stop = start + max(1, max_tokens // len(ordered[start].ids))
        yield ordered[start:stop]
        start = stop


def _plan_passes(rows: Sequence[_MaskedText], share: float, masks_per_pass: int) -> list[_Pass]:
    """The positions of all rows, pass by pass: a row that needs fewer passes than another leaves early."""
    dealt = [_deal_positions(row.maskable, share, masks_per_pass, row.rng) for row in rows]
    passes = []
    for step in range(max(map(len, dealt), default=0)):
        active = [(number, groups[step]) for number, groups in enumerate(dealt) if step < len(groups)]
        sizes = [len(group) for _, group in active]
        uniforms = [rows[number].rng.random(size, np.float32) for (number, _), size in zip(active, sizes, strict=True)]
        numbers = np.repeat([number for number, _ in active], sizes)
        passes.append(_Pass(numbers, np.concatenate([group for _, group in active]), np.concatenate(uniforms)))
    return passes


def _deal_positions(
    maskable: NDArray[np.int64], share: float, masks_per_pass: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """The positions to refill, `share` of the ordinary ones and at least one, in groups of at most `at_once`.

    They are dealt out like cards and the groups shuffled: neighbors, which depend on each other the most, are refilled
    one after the other, and with groups of one the order is uniformly random.
    """
    count = min(len(maskable), max(1, round(share * len(maskable))))
    chosen = np.sort(rng.choice(maskable, count, replace=False)) if count else maskable
    groups = math.ceil(count / masks_per_pass)
    return [chosen[first::groups] for first in rng.permutation(groups).tolist()]


def _pad_rows(rows: Sequence[NDArray[np.int64]], pad: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and attention mask, both (rows, longest), padded on the right."""
    lengths = np.array([len(row) for row in rows])
    attention = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.full(attention.shape, pad, np.int64)
    ids[attention == 1] = np.concatenate(rows)
    return ids, attention
