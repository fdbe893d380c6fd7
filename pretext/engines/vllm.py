"""Generation with vLLM in this process: all prompts at once, shared prefixes computed once."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pretext.engines import Sampling, Usage, cut_at_stop, fitting, unheard
from pretext.errors import ModelError
from pretext.models import loading, resolve_generator
from pretext.prompts import Prompt, token_ids


class VLLMEngine:
    """A model in vLLM's scheduler, in this process.

    On CUDA every request has a seed of its own. vLLM's CPU build fails on many seeded requests, so there one generator
    that is seeded for the whole batch draws for all of them.

    Args:
        model: as in `pretext.models.resolve_generator`.
        dtype: name of a torch dtype; default: the model's own.
        memory_share: share of the device's memory that vLLM may take.
        max_length: longest prompt plus answer in tokens; default: the model's context.
        tensor_parallel: number of GPUs over which the model is split.

    Raises:
        ModelError: vLLM is not installed, or the model cannot be found or loaded.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str | None = None,
        memory_share: float = 0.3,
        max_length: int | None = None,
        tensor_parallel: int = 1,
    ) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise ModelError(
                "The engine vllm needs the package vLLM, which is not installed; run `pip install 'pretext[vllm]'` on "
                "a machine with a CUDA GPU, `pip install 'pretext[cpu]'` on one without, or use transformers."
            )
        self.usage = Usage()
        source = resolve_generator(model)
        self._cuda = _set_environment()
        with loading(model):
            from vllm import LLM

            self._llm: Any = LLM(
                model=str(source),
                dtype=dtype or "auto",
                gpu_memory_utilization=memory_share,
                max_model_len=max_length,
                tensor_parallel_size=tensor_parallel,
                enable_prefix_caching=True,
                enforce_eager=not self._cuda,
            )
        self._tokenizer = self._llm.get_tokenizer()
        self._context: int = self._llm.llm_engine.model_config.max_model_len

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, advance: Callable[[int], None] = unheard
    ) -> list[str | None]:
        """See `Engine`."""
        encoded = [token_ids(prompt, self._tokenizer) for prompt in prompts]
        chosen = fitting(encoded, self._context, sampling.max_tokens)
        texts: list[str | None] = [None] * len(prompts)
        answers = self._generate([encoded[index] for index in chosen], sampling)
        for index, answer in zip(chosen, answers, strict=True):
            texts[index] = cut_at_stop(answer, sampling.stop)
        advance(len(prompts))
        return texts

    def _generate(self, prompts: list[list[int]], sampling: Sampling) -> list[str]:
        import torch

        if not prompts:
            return []
        requests = [{"prompt_token_ids": ids} for ids in prompts]
        # In process, vLLM draws from torch's global generator: whoever else uses it gets its state back.
        with torch.random.fork_rng(enabled=not self._cuda, devices=[]):
            if not self._cuda:
                torch.manual_seed(sampling.seed % 2**63)
            outputs = self._llm.generate(requests, self._parameters(len(prompts), sampling), use_tqdm=False)
        self.usage += Usage(sum(map(len, prompts)), sum(len(output.outputs[0].token_ids) for output in outputs))
        return [output.outputs[0].text for output in outputs]

    def _parameters(self, count: int, sampling: Sampling) -> list[Any]:
        from vllm import SamplingParams

        seeds = np.random.SeedSequence(sampling.seed).generate_state(count).tolist() if self._cuda else [None] * count
        return [
            SamplingParams(
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                stop=list(sampling.stop) or None,
                seed=seed,
            )
            for seed in seeds
        ]


def _set_environment() -> bool:
    """Set what vLLM reads from the environment, where the user has not; returns whether there is a CUDA device."""
    import torch

    defaults = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_LOGGING_STREAM": "ext://sys.stderr"}
    cuda = torch.cuda.is_available()
    if not cuda:
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        defaults |= {
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(cores))),
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process less to start, and to leave behind
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    return cuda
