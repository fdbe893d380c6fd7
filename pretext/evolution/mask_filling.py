"""Vary texts with a masked language model, as PrE-Text does: hide a share of the tokens and sample them anew. Public.

The paper (arXiv 2406.02958) refills one token per forward pass, on rows padded to the maximum. Here rows of similar
length share a pass, a pass may refill several tokens of a row (`variation.masks_per_pass`; the paper's way is 1), and
the vocabulary is scored at those positions alone.
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
    """A text whose tokens are refilled.

    Attributes:
        text: as it came.
        original_ids: shape (n,), its token ids.
        ids: shape (n,), the token ids after the passes so far; changed in place.
        spans: start and end of each token in the text; empty without word pieces.
        maskable: positions that may be hidden.
        rng: the text's own randomness.
    """

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

    The share is taken per text. Special, added and unused tokens are neither hidden nor sampled. Texts are cut to
    `variation.max_tokens`, special tokens included. Each text has randomness of its own, so the rest of its batch
    changes its logits by rounding at most.

    Args:
        model: the masked language model.
        variation: share, passes, temperature and length.
        batch_size: texts of the longest length in a forward pass; more of shorter ones.

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
        """Vary each parent; see `pretext.evolution.variation.Variation`. The pool is not used."""
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
        rows = []
        for text, tokens, text_spans, seed in zip(texts, encoded["input_ids"], spans, seeds, strict=True):
            ids = np.array(tokens, np.int64)
            maskable = np.flatnonzero(~np.isin(ids, self._model.excluded))
            rows.append(_MaskedText(text, ids.copy(), ids, text_spans, maskable, np.random.default_rng(seed)))
        return rows

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
        """Decode the row as it is now; word pieces lose spaces and capitals, so these come from the original text."""
        tokenizer = self._model.tokenizer
        if not self._model.has_word_pieces:
            return str(tokenizer.decode(row.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()
        old_tokens, new_tokens = (tokenizer.convert_ids_to_tokens(ids.tolist()) for ids in (row.original_ids, row.ids))
        return splice_word_pieces(row.text, row.spans, old_tokens, new_tokens)


def _batch_rows(rows: Sequence[_MaskedText], max_tokens: int) -> Iterator[list[_MaskedText]]:
    """Batch rows of similar length, longest first: at most `max_tokens` with padding, but at least one row."""
    ordered = sorted(rows, key=lambda row: -len(row.ids))
    start = 0
    while start < len(ordered):
        stop = start + max(1, max_tokens // len(ordered[start].ids))
        yield ordered[start:stop]
        start = stop


def _plan_passes(rows: Sequence[_MaskedText], share: float, masks_per_pass: int) -> list[_Pass]:
    """Plan which positions each pass refills: a row that needs fewer passes than others leaves early."""
    positions = [_deal_positions(row.maskable, share, masks_per_pass, row.rng) for row in rows]
    passes = []
    for step in range(max(map(len, positions), default=0)):
        active = [(number, groups[step]) for number, groups in enumerate(positions) if step < len(groups)]
        sizes = [len(group) for _, group in active]
        uniforms = [rows[number].rng.random(size, np.float32) for (number, _), size in zip(active, sizes, strict=True)]
        numbers = np.repeat([number for number, _ in active], sizes)
        passes.append(_Pass(numbers, np.concatenate([group for _, group in active]), np.concatenate(uniforms)))
    return passes


def _deal_positions(
    maskable: NDArray[np.int64], share: float, masks_per_pass: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Draw `share` of the maskable positions, at least one, and deal them into groups of at most `masks_per_pass`.

    They are dealt like cards, and the groups are shuffled: neighbors, which depend on each other the most, are refilled
    one after the other, and with groups of one the order is uniformly random.
    """
    count = min(len(maskable), max(1, round(share * len(maskable))))
    hidden = np.sort(rng.choice(maskable, count, replace=False)) if count else maskable
    groups = math.ceil(count / masks_per_pass)
    return [hidden[first::groups] for first in rng.permutation(groups).tolist()]


def _pad_rows(rows: Sequence[NDArray[np.int64]], pad: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pad token ids on the right; return them and the attention mask, both (rows, longest)."""
    lengths = np.array([len(row) for row in rows])
    attention = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.full(attention.shape, pad, np.int64)
    ids[attention == 1] = np.concatenate(rows)
    return ids, attention
