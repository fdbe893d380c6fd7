"""Differentially private synthetic text from private text: PrE-Text with a ledger.

import pretext
result = pretext.synthesize("notes.csv", client_column="author", epsilon=1.0, prompts=["Short notes of a nurse."])
print(result.texts[:10], result.privacy["guarantee"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pretext.api import Result, rank_public_sets, synthesize

__all__ = ["Result", "rank_public_sets", "synthesize"]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `pretext --help` does not pay for it.
    if name in __all__:
        from pretext import api

        return getattr(api, name)
    raise AttributeError(f"module 'pretext' has no attribute {name!r}")
