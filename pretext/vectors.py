"""Represent texts as rows of length 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """A function from texts to rows of length 1."""

    def __call__(self, texts: Sequence[str], *, announce: str | None = None) -> NDArray[np.float32]:
        """Embed the texts; shape (len(texts), d), rows of length 1.

        With `announce`, show progress under that name, without counts.
        """
        ...


def normalize_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to length 1; a zero row stays zero, and a row that is not finite (half precision overflows) becomes
    zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    finite = np.isfinite(norms)
    return np.asarray(np.where(finite, rows, 0.0) / np.where(finite & (norms > 1e-12), norms, 1.0), dtype=np.float32)
