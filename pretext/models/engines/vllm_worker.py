"""Run vLLM in a process of its own, `python -m pretext.models.engines.vllm_worker`.

`pretext.models.engines.vllm` starts it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from pretext.models.engines import Sampling
from pretext.models.engines.subprocess import connect_to_parent
from pretext.models.engines.vllm import Completion, ModelReady, ModelSpec, PromptBatch, WorkerFailure

_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # allowed by vLLM as max_lora_rank
_ADAPTER_ID = 1  # vLLM numbers adapters from 1
# Tokens that share a block of the prefix cache. vLLM's default on a CPU is 128, longer than many few-shot prompts; its
# kernels are made for multiples of 32.
CPU_BLOCK_TOKENS = 32


def main() -> None:
    """Load the model that the parent names, then complete batches until the parent closes the pipe."""
    connection = connect_to_parent()
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        try:
            _serve(connection)
        except Exception as error:
            connection.send(WorkerFailure(_explain_error(error)))
            raise


def load_llm(model: ModelSpec) -> Any:
    """Load vLLM's `LLM` with the engine's settings."""
    from vllm import LLM
    from vllm.platforms import current_platform

    adapter = {"enable_lora": True, "max_lora_rank": _choose_lora_rank(model.adapter)} if model.adapter else {}
    cpu = current_platform.is_cpu()
    return LLM(
        model=model.source,
        runner="generate",
        dtype=model.dtype or "auto",
        quantization=model.quantization,
        gpu_memory_utilization=model.memory_share,
        kv_cache_memory_bytes=model.cache,
        max_model_len=model.max_length,
        tensor_parallel_size=model.tensor_parallel,
        enable_prefix_caching=True,
        block_size=CPU_BLOCK_TOKENS if cpu else None,
        enforce_eager=cpu,  # compiling for a CPU takes minutes
        **adapter,
    )


def make_sampling_params(sampling: Sampling, ends: list[int], count: int) -> list[Any]:
    """Make vLLM's `SamplingParams` for each of `count` prompts; without a GPU, seed the generator that they share."""
    import torch
    from vllm import SamplingParams
    from vllm.platforms import current_platform
    from vllm.sampling_params import RequestOutputKind

    if current_platform.is_cpu():
        torch.manual_seed(sampling.seed % 2**63)
        seeds = [None] * count
    else:
        seeds = np.random.SeedSequence(sampling.seed).generate_state(count).tolist()
    return [
        SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            stop=list(sampling.stop) or None,
            stop_token_ids=ends,
            seed=seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        for seed in seeds
    ]


def _serve(connection: Connection) -> None:
    model: ModelSpec = connection.recv()
    engine = load_llm(model).llm_engine
    lora = None
    if model.adapter is not None:
        from vllm.lora.request import LoRARequest

        lora = LoRARequest(model.adapter, _ADAPTER_ID, model.adapter)
        engine.add_lora(lora)  # now: an adapter that cannot be loaded must not fail in the middle
    connection.send(ModelReady(engine.model_config.max_model_len))
    while True:
        batch: PromptBatch = connection.recv()
        for completion in _complete_batch(engine, batch, model.ends, lora):
            connection.send(completion)


def _complete_batch(engine: Any, batch: PromptBatch, ends: list[int], lora: Any) -> Iterator[Completion]:
    """Complete the batch; yield each completion when it ends."""
    parameters = make_sampling_params(batch.sampling, ends, len(batch.prompts))
    for index, (ids, params) in enumerate(zip(batch.prompts, parameters, strict=True)):
        engine.add_request(str(index), {"prompt_token_ids": ids}, params, lora_request=lora)
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                (answer,) = output.outputs
                read, cached = len(output.prompt_token_ids), output.num_cached_tokens or 0
                yield Completion(int(output.request_id), answer.text, read, cached, len(answer.token_ids))


def _choose_lora_rank(adapter: str) -> int:
    """Choose the smallest rank that vLLM offers and that is at least the adapter's."""
    folder = Path(adapter)
    if not folder.is_dir():
        from huggingface_hub import hf_hub_download

        try:
            folder = Path(hf_hub_download(adapter, "adapter_config.json")).parent
        except (OSError, ValueError) as error:
            raise ValueError(f"models.adapter = {adapter!r} is neither a folder nor an adapter on the hub") from error
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    needed = max([settings["r"], *settings.get("rank_pattern", {}).values()])
    return next((rank for rank in _LORA_RANKS if rank >= needed), needed)


def _explain_error(error: Exception) -> str:
    """Say in a sentence what went wrong; empty where vLLM refers to its log."""
    from pydantic import ValidationError

    text = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
    text = (text.strip().splitlines() or [type(error).__name__])[0].removeprefix("Value error, ")
    return "" if "root cause" in text else text.split(". ")[0][:300]


if __name__ == "__main__":
    main()
