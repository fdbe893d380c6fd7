"""Texts to unit vectors, with sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pretext.config import Config
from pretext.models import loading, preferred_dtype, resolve_embedder
from pretext.progress import progress

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Embedder(Protocol):
    """Anything that turns texts into unit rows."""

    def __call__(self, texts: Sequence[str], *, announce: str | None = None) -> NDArray[np.float32]:
        """Shape (len(texts), d), rows of length 1. With `announce`, progress is shown under that name, without
        counts."""
        ...


class SentenceEmbedder:
    """A sentence-transformers model; private and public texts are cut to the same number of tokens."""

    def __init__(
        self, name: str, max_tokens: int, batch_size: int, device: str | None = None, dtype: str | None = None
    ) -> None:
        self._batch_size = batch_size
        self._model = _load(name, device, dtype)
        self._model.max_seq_length = min(max_tokens, self._model.max_seq_length or max_tokens)

    @classmethod
    def from_config(cls, config: Config) -> SentenceEmbedder:
        """The embedder that a configuration names."""
        models, speed = config.models, config.speed
        return cls(models.embedder, models.embedder_tokens, speed.embed_batch_size, speed.device, speed.dtype)

    def __call__(self, texts: Sequence[str], *, announce: str | None = None) -> NDArray[np.float32]:
        """See `Embedder`. Texts go through the model sorted by length, so that a batch holds little padding."""
        dimension = self._model.get_embedding_dimension()
        rows = np.empty((len(texts), dimension or 0), np.float32)
        order = np.argsort([-len(text) for text in texts], kind="stable")
        block = 32 * self._batch_size
        with progress(announce, len(texts), counts=False) as advance:
            for start in range(0, len(texts), block):
                chosen = order[start : start + block]
                rows[chosen] = self._encode([texts[i] for i in chosen])
                advance(len(chosen))
        return unit_rows(rows)

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        texts = [text.encode(errors="replace").decode() for text in texts]  # half a surrogate pair stops the tokenizer
        encoded = self._model.encode(
            texts, batch_size=self._batch_size, convert_to_tensor=True, show_progress_bar=False
        )
        return np.asarray(encoded.float().cpu().numpy(), dtype=np.float32)


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a zero row stays zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-12), dtype=np.float32)


def _load(name: str, device: str | None, dtype: str | None) -> SentenceTransformer:
    import torch
    from sentence_transformers import SentenceTransformer

    source = str(resolve_embedder(name))
    with loading(name):
        return SentenceTransformer(
            source, device=device, model_kwargs={"dtype": getattr(torch, dtype or preferred_dtype(device))}
        )
