"""Who turns texts into unit rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """Anything that turns texts into unit rows."""

    def __call__(self, texts: Sequence[str], *, announce: str | None = None) -> NDArray[np.float32]:
        """Shape (len(texts), d), rows of length 1. With `announce`, progress is shown under that name, without
        counts."""
        ...


def normalize_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a zero row stays zero, and one that is not finite (half precision overflows) becomes
    zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    finite = np.isfinite(norms)
    return np.asarray(np.where(finite, rows, 0.0) / np.where(finite & (norms > 1e-12), norms, 1.0), dtype=np.float32)
