"""Variation by a masked language model, PrE-Text's own: hide a share of a text's tokens and sample them anew. Public.

The paper (arXiv 2406.02958) refills one token per forward pass, on rows padded to the maximum. Here rows of like length
share a pass, several tokens of a row may be refilled in one (`variation.masks_per_pass`; 1 is the paper's way), and the
vocabulary is scored at those positions alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pretext.config import Config
from pretext.errors import ModelError, UsageError
from pretext.models import inner_sizes, loading, preferred_dtype, resolve_masked
from pretext.population import Candidate
from pretext.progress import progress
from pretext.wordpieces import spliced

if TYPE_CHECKING:
    import torch

_UNUSED = re.compile(r"[\[<]?(unused|madeupword)\d+[\]>]?")


@dataclass(frozen=True)
class _Row:
    """One text on its way: token ids as given and, changed in place, as they are now; where each token stands in the
    text; which of them may be hidden; and the text's own randomness."""

    text: str
    given: NDArray[np.int64]
    ids: NDArray[np.int64]
    spans: Sequence[tuple[int, int]]
    ordinary: NDArray[np.int64]
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
    `variation.max_tokens`, special tokens included. Every text has randomness of its own, so the company it keeps in a
    batch changes its logits by rounding at most.

    Raises:
        ModelError: the model cannot be loaded, is no masked language model, or has no mask token.
        UsageError: the model does not take texts of `variation.max_tokens`.
    """

    def __init__(self, config: Config) -> None:
        self._variation = config.variation
        self._batch_tokens = config.speed.batch_size * config.variation.max_tokens
        self._tokenizer, self._model = _load(config.models.masked, config.speed.device, config.speed.dtype)
        _check_length(config.variation.max_tokens, self._tokenizer, self._model)
        self._excluded = _excluded(self._tokenizer, self._model.config.get_text_config().vocab_size)
        self._gathers = _head_takes_positions(self._model)
        self._splices = _has_word_pieces(self._tokenizer)

    def __call__(
        self, parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator
    ) -> list[str | None]:
        """See `pretext.variation.Variation`; the pool is not used."""
        rows = self._rows([parent.text for parent in parents], rng)
        with progress("Refilling masked tokens", len(rows)) as advance:
            for batch in _batches(rows, self._batch_tokens):
                for _ in range(self._variation.mask_passes):
                    self._refill(batch)
                advance(len(batch))
        return [self._text(row) for row in rows]

    def _rows(self, texts: list[str], rng: np.random.Generator) -> list[_Row]:
        if not texts:
            return []
        encoded = self._tokenizer(
            texts,
            truncation=True,
            max_length=self._variation.max_tokens,
            split_special_tokens=True,
            return_offsets_mapping=self._splices,
        )
        spans = encoded.get("offset_mapping", [[]] * len(texts))
        seeds = rng.integers(2**63, size=len(texts))
        return [self._row(*row) for row in zip(texts, encoded["input_ids"], spans, seeds, strict=True)]

    def _row(self, text: str, tokens: list[int], spans: list[tuple[int, int]], seed: int) -> _Row:
        ids = np.array(tokens, np.int64)
        ordinary = np.flatnonzero(~np.isin(ids, self._excluded))
        return _Row(text, ids.copy(), ids, spans, ordinary, np.random.default_rng(seed))

    def _refill(self, rows: Sequence[_Row]) -> None:
        """Hide a share of every row's tokens and refill them, in as many passes as the row with most of them needs."""
        import torch

        ids, attention = _padded([row.ids for row in rows], self._tokenizer.pad_token_id or 0)
        passes = _passes(rows, self._variation.mask_share, self._variation.masks_per_pass)
        for step in passes:
            ids[step.rows, step.columns] = self._tokenizer.mask_token_id
        for step in passes:
            active, places = np.unique(step.rows, return_inverse=True)
            with torch.inference_mode():
                logits = self._logits(ids[active], attention[active], places, step.columns)
                ids[step.rows, step.columns] = self._sampled(logits, step.uniforms).cpu().numpy()
        for row, filled in zip(rows, ids, strict=True):
            row.ids[:] = filled[: len(row.ids)]

    def _logits(
        self, ids: NDArray[np.int64], attention: NDArray[np.int64], rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> torch.Tensor:
        """Logits at the positions, shape (positions, vocabulary)."""
        import torch

        device = self._model.device
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(attention)}
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        where = torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
        with _gathering(self._model, where) if self._gathers else nullcontext():
            logits: torch.Tensor = self._model(**inputs).logits
        return logits[0] if self._gathers else logits[where]

    def _sampled(self, logits: torch.Tensor, uniforms: NDArray[np.float32]) -> torch.Tensor:
        """One token per position, shape (positions,): the first one whose cumulative probability passes the uniform."""
        import torch

        logits = logits.float()
        logits[:, self._excluded] = -torch.inf
        if self._variation.temperature == 0:
            return logits.argmax(dim=1)
        cumulative = torch.softmax(logits / self._variation.temperature, dim=1).cumsum(dim=1)
        targets = torch.from_numpy(uniforms).to(cumulative.device)[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, targets, right=True)[:, 0]

    def _text(self, row: _Row) -> str:
        """What the row reads as now; where word pieces have lost spaces and capitals, these come from the old text."""
        if not self._splices:
            text = self._tokenizer.decode(row.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            return str(text).strip()
        given, now = (self._tokenizer.convert_ids_to_tokens(ids.tolist()) for ids in (row.given, row.ids))
        return spliced(row.text, row.spans, given, now)


def _batches(rows: Sequence[_Row], tokens: int) -> Iterator[list[_Row]]:
    """Rows of like length, the longest first, as many as hold so many tokens with their padding, but at least one."""
    ordered = sorted(rows, key=lambda row: -len(row.ids))
    start = 0
    while start < len(ordered):
        stop = start + max(1, tokens // len(ordered[start].ids))
        yield ordered[start:stop]
        start = stop


def _passes(rows: Sequence[_Row], share: float, at_once: int) -> list[_Pass]:
    """The positions of all rows, pass by pass: a row that needs fewer passes than another leaves early."""
    dealt = [_dealt(row.ordinary, share, at_once, row.rng) for row in rows]
    passes = []
    for step in range(max(map(len, dealt), default=0)):
        active = [(number, groups[step]) for number, groups in enumerate(dealt) if step < len(groups)]
        sizes = [len(group) for _, group in active]
        uniforms = [rows[number].rng.random(size, np.float32) for (number, _), size in zip(active, sizes, strict=True)]
        numbers = np.repeat([number for number, _ in active], sizes)
        passes.append(_Pass(numbers, np.concatenate([group for _, group in active]), np.concatenate(uniforms)))
    return passes


def _dealt(
    ordinary: NDArray[np.int64], share: float, at_once: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """The positions to refill, `share` of the ordinary ones and at least one, in groups of at most `at_once`.

    They are dealt out like cards and the groups shuffled: neighbours, which depend on each other the most, are refilled
    one after the other, and with groups of one the order is uniformly random.
    """
    count = min(len(ordinary), max(1, round(share * len(ordinary))))
    chosen = np.sort(rng.choice(ordinary, count, replace=False)) if count else ordinary
    groups = math.ceil(count / at_once)
    return [chosen[first::groups] for first in rng.permutation(groups).tolist()]


def _padded(rows: Sequence[NDArray[np.int64]], pad: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and attention mask, both (rows, longest), padded on the right."""
    lengths = np.array([len(row) for row in rows])
    attention = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.full(attention.shape, pad, np.int64)
    ids[attention == 1] = np.concatenate(rows)
    return ids, attention


def _excluded(tokenizer: Any, size: int) -> NDArray[np.int64]:
    """Ids that stand for no text: special, added and unused tokens, and rows of the vocabulary without a token."""
    vocabulary = tokenizer.get_vocab()
    unused = {number for token, number in vocabulary.items() if _UNUSED.fullmatch(token)}
    absent = set(range(size)) - set(vocabulary.values())
    return np.array(sorted({*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder, *unused, *absent}), np.int64)


@contextmanager
def _gathering(model: Any, where: tuple[torch.Tensor, torch.Tensor]) -> Iterator[None]:
    """Within, the model's head sees the encoder's states at these rows and columns alone, as one row of them."""

    def gather(module: object, arguments: object, output: Any) -> Any:
        output["last_hidden_state"] = output["last_hidden_state"][where][None]
        return output

    handle = model.base_model.register_forward_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def _head_takes_positions(model: Any) -> bool:
    """Whether the model gives the same logits where its head sees only some positions; families differ, so it is tried.

    If not, the head scores every position, which is slower and the same.
    """
    import torch

    ids = torch.arange(6, device=model.device).reshape(2, 3)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    where = torch.tensor([0, 1, 1], device=model.device), torch.tensor([2, 0, 1], device=model.device)
    with torch.inference_mode():
        expected = model(**inputs).logits[where].float()
        try:
            with _gathering(model, where):
                found = model(**inputs).logits.float()
        except Exception:  # a head of another make may fail in any way
            return False
    if found.shape != (1, *expected.shape):
        return False
    return bool((found[0] - expected).abs().max() <= 0.02 * expected.abs().max())


def _has_word_pieces(tokenizer: Any) -> bool:
    from tokenizers.decoders import WordPiece

    return tokenizer.is_fast and isinstance(tokenizer.backend_tokenizer.decoder, WordPiece)


def _load(name: str, device: str | None, dtype: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoConfig, AutoModelForMaskedLM, AutoTokenizer

    source = resolve_masked(name)
    with loading(name):
        settings = AutoConfig.from_pretrained(source)
        if type(settings) not in MODEL_FOR_MASKED_LM_MAPPING:
            raise _unfit(name, "is no masked language model")
        chosen = dtype or preferred_dtype(device, *inner_sizes(settings))
        tokenizer = AutoTokenizer.from_pretrained(source)
        if tokenizer.mask_token_id is None:
            raise _unfit(name, "has no mask token")
        model, information = AutoModelForMaskedLM.from_pretrained(
            source, dtype=getattr(torch, chosen), output_loading_info=True
        )
    if information["missing_keys"]:
        raise _unfit(name, "was saved without the head that predicts tokens")
    return tokenizer, model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def _check_length(tokens: int, tokenizer: Any, model: Any) -> None:
    least = tokenizer.num_special_tokens_to_add() + 1
    most = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", tokens))
    if not least <= tokens <= most:
        raise UsageError(
            f"variation.max_tokens is {tokens}, and the masked language model takes texts of {least} to {most} tokens, "
            "its special ones included; set it within that range or name another model as models.masked."
        )


def _unfit(name: str, reason: str) -> ModelError:
    return ModelError(
        f"The model {name!r} {reason}, so it cannot fill masks; set models.masked to a masked language model such as "
        "roberta-large."
    )
