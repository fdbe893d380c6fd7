"""Differentially private synthetic text from private text: PrE-Text with a ledger.

import pretext
result = pretext.synthesize("notes.csv", client_column="author", epsilon=1.0, prompts=["Short notes of a nurse."])
print(result.texts[:10], result.privacy.guarantee)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pretext.api import Result, rank_public_sets, synthesize
    from pretext.errors import PretextError

__all__ = ["PretextError", "Result", "rank_public_sets", "synthesize"]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `pretext --help` does not pay for it.
    if name not in __all__:
        raise AttributeError(f"module 'pretext' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("pretext.errors" if name == "PretextError" else "pretext.api"), name)
