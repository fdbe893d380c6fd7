"""Run a bare `vllm.LLM.generate` in a process of its own, as the baseline of scripts/bench/engines.py."""

from __future__ import annotations

import time
from contextlib import suppress

from pretext.models.engines.subprocess import connect_to_parent
from pretext.models.engines.vllm_worker import load_llm, make_sampling_params


def main() -> None:
    """Load the model that comes first; answer each pair of prompts and sampling with seconds and tokens."""
    pipe = connect_to_parent()
    model = pipe.recv()
    llm = load_llm(model)
    pipe.send("ready")
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            prompts, sampling = pipe.recv()
            requests = [{"prompt_token_ids": ids} for ids in prompts]
            settings = make_sampling_params(sampling, model.ends, len(prompts))
            started = time.perf_counter()
            outputs = llm.generate(requests, settings, use_tqdm=False)
            seconds = time.perf_counter() - started
            pipe.send((seconds, sum(len(output.outputs[0].token_ids) for output in outputs)))


if __name__ == "__main__":
    main()
