"""A fake generator for tests and dry runs: a function writes the completions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pretext.errors import EngineError
from pretext.models.engines import Sampling, Usage, cut_at_stop, ignore_progress
from pretext.prompts import Prompt


class ScriptedEngine:
    """An engine that completes with `reply(prompt, rng)`; the same `sampling.seed` gives the same texts.

    A token is a word. A reply of None stands for a failed request. At temperature 0 every prompt gets the same
    generator, whatever the seed.
    """

    def __init__(self, reply: Callable[[Prompt, np.random.Generator], str | None]) -> None:
        self._reply = reply
        self.usage = Usage()

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, advance: Callable[[int], None] = ignore_progress
    ) -> list[str | None]:
        """See `Engine`."""
        texts = [self._complete_one(index, prompt, sampling) for index, prompt in enumerate(prompts)]
        self.usage += Usage(_count_words(prompt.text for prompt in prompts), _count_words(text or "" for text in texts))
        advance(len(prompts))
        if texts and all(text is None for text in texts):
            raise EngineError("The scripted engine failed for every prompt; its reply function returned None.")
        return texts

    def _complete_one(self, index: int, prompt: Prompt, sampling: Sampling) -> str | None:
        entropy = [sampling.seed, index] if sampling.temperature > 0 else 0
        reply = self._reply(prompt, np.random.default_rng(entropy))
        if reply is None:
            return None
        text = cut_at_stop(reply, sampling.stop)
        words = text.split()
        return text if len(words) <= sampling.max_tokens else " ".join(words[: sampling.max_tokens])


def _count_words(texts: Iterable[str]) -> int:
    return sum(len(text.split()) for text in texts)
