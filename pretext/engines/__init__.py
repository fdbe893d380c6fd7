"""Text generators behind one Protocol.

An engine completes prompts and knows nothing of privacy: everything it sees is public or already released.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pretext.prompts import Prompt


@dataclass(frozen=True)
class Sampling:
    """How to sample one completion per prompt.

    `seed` makes a batch repeatable where the engine allows it; every prompt of a batch gets randomness of its own.
    A completion ends before the first of the `stop` strings, which is not part of it.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0


@runtime_checkable
class Engine(Protocol):
    """A text generator."""

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[str | None]:
        """One completion per prompt, in order; None where this one request failed.

        Raises:
            EngineError: every request of the batch failed.
        """
        ...
