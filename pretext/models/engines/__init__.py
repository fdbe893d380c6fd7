"""Complete prompts: every text generator implements one Protocol, `Engine`.

An engine knows nothing of privacy: everything it sees is public or already released.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, assert_never

import numpy as np

from pretext.errors import EngineError, UsageError

if TYPE_CHECKING:
    from pretext.config.settings import Expansion, Models, Speed, Variation
    from pretext.prompts import Prompt

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampling:
    """How to sample one completion per prompt.

    Attributes:
        max_tokens: length limit of a completion.
        temperature: 0 is greedy.
        top_p: probability of the nucleus to sample from.
        stop: a completion ends before the first of these strings.
        seed: makes a batch repeatable where the engine allows it; every prompt of a batch gets its own randomness.

    Raises:
        UsageError: a value is out of range.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0

    @classmethod
    def from_section(cls, section: Variation | Expansion, stop: tuple[str, ...], rng: np.random.Generator) -> Sampling:
        """Sample as a section of the configuration says, with a seed drawn from `rng`."""
        return cls(section.max_tokens, section.temperature, section.top_p, stop, int(rng.integers(2**31)))

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens is {self.max_tokens}; a completion needs at least 1.")
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature}; it must be 0 (greedy) or a positive number.")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is {self.top_p}; it must be above 0 and at most 1.")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}; it must be 0 or more.")
        if "" in self.stop:
            raise UsageError(
                "One of the stop strings is empty, which would end every completion at once; leave it out."
            )


@dataclass(frozen=True)
class Usage:
    """Tokens that an engine has read (prompts) and written (completions), as its model counts them."""

    read: int = 0
    written: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.read + other.read, self.written + other.written)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.read - other.read, self.written - other.written)


def ignore_progress(prompts: int) -> None:
    """Accept a report of progress and show nothing."""


class Engine(Protocol):
    """A text generator.

    Attributes:
        usage: the tokens of all calls so far.
    """

    usage: Usage

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, advance: Callable[[int], None] = ignore_progress
    ) -> list[str | None]:
        """Complete every prompt, in order; None where a single request failed.

        Pass all prompts of a phase at once: the engine makes its own batches. It calls `advance` with the number of
        prompts that it has just finished. A prompt that leaves no room for `max_tokens` in the model's context fails;
        it is not cut, because half a prompt asks for something else.

        Raises:
            EngineError: every request of the batch failed, or so many in a row that the engine is given up.
        """
        ...


def open_engine(models: Models, speed: Speed) -> Engine:
    """Open the engine that `speed.engine` names with the model that `models.generator` names.

    Raises:
        ModelError: the model cannot be loaded, or the engine's package is not installed.
        UsageError: the engine cannot run with these settings.
    """
    match speed.engine:
        case "transformers":
            from pretext.models.engines.transformers import TransformersEngine

            return TransformersEngine.from_sections(models, speed)
        case "vllm":
            from pretext.models.engines.vllm import VLLMEngine

            return VLLMEngine.from_sections(models, speed)
        case "openai":
            from pretext.models.engines.openai import OpenAIEngine

            return OpenAIEngine.from_sections(models, speed)
        case "ray":
            from pretext.models.engines.ray import RayEngine

            return RayEngine.from_sections(models, speed)
        case unknown:
            assert_never(unknown)


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """Return the text before the first stop string in it."""
    ends = [text.find(string) for string in stop]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


def find_fitting_prompts(prompts: Sequence[Sequence[int]], context: int, max_tokens: int) -> list[int]:
    """Return the indices of the prompts (token ids) that leave room for `max_tokens` in a context of `context` tokens.

    Raises:
        EngineError: there are prompts, and none of them fits.
    """
    fitting = [index for index, ids in enumerate(prompts) if len(ids) + max_tokens <= context]
    if prompts and not fitting:
        raise EngineError(
            f"Every prompt of the batch ({len(prompts)}) is longer than the model's context of {context} tokens less "
            f"max_tokens = {max_tokens}; use fewer or shorter examples, fewer tokens, or a model with a longer context."
        )
    if len(fitting) < len(prompts):
        _logger.warning(
            "%d of %d prompts do not fit into the model's context of %d tokens less max_tokens = %d.",
            len(prompts) - len(fitting),
            len(prompts),
            context,
            max_tokens,
        )
    return fitting
