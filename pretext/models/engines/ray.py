"""Generate on several GPUs or machines: Ray Data's processor for vLLM, one copy of the model per worker.

Ray Data runs one stream of tickets from the first call to the last, so that the workers load the model once. A ticket
stands for a few prompts; the task that draws it waits at the desk until they are posted. Ray replaces a worker that
dies and draws its tickets again; the desk hands out the same prompts every time.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from pretext.errors import EngineError, ModelError, PretextError, UsageError
from pretext.models.chat_format import encode_prompt, find_end_tokens
from pretext.models.engines import Sampling, Usage, cut_at_stop, find_fitting_prompts, ignore_progress
from pretext.models.engines.vllm import (
    check_quantization,
    choose_vllm_dtype,
    compute_cache_bytes,
    load_config_and_tokenizer,
)
from pretext.models.sources import explain_model_errors
from pretext.prompts import Prompt

if TYPE_CHECKING:
    from pretext.config.settings import Models, Speed

_STREAM_TICKETS = 4096  # a quarter of a million prompts; the workers load the model again for every stream
_TICKET_PROMPTS = 64  # prompts per ticket
_TICKETS_AT_ONCE = 32  # per worker: together more requests than vLLM runs at a time
_DESK_PROCESSES = 4  # that wait at the desk
_PADDING = -1  # the number of a row that only fills its ticket
_Row: TypeAlias = dict[str, Any]  # Ray Data takes and gives rows of any columns
_logger = logging.getLogger(__name__)


class RayEngine:
    """vLLM in Ray's workers: on this machine, or in the cluster that the environment variable RAY_ADDRESS names.

    Every machine must have this program installed and the model folder under the same path. On CUDA every request has
    its own seed; on CPUs nothing is repeatable.

    Args:
        model: as in `pretext.models.sources.resolve_generator`.
        workers: copies of the model, each on `tensor_parallel` GPUs; without a GPU they share the cores.
        adapter: must be None; Ray's processor takes no LoRA adapter here.
        dtype: name of a torch dtype; default: see `pretext.models.engines.vllm.choose_vllm_dtype`.
        quantization: vLLM's name for the quantization of the weights; default: as the model's configuration says.
        memory_share: share of the device's memory for each worker; without a GPU, for all workers together.
        max_length: longest prompt plus answer, in tokens; default: the model's context.
        tensor_parallel: number of GPUs over which each copy is split.

    Raises:
        ModelError: Ray or vLLM is not installed, or the model cannot be found or loaded.
        UsageError: `adapter` names an adapter.
    """

    def __init__(
        self,
        model: str,
        *,
        workers: int = 1,
        adapter: str | None = None,
        dtype: str | None = None,
        quantization: str | None = None,
        memory_share: float = 0.3,
        max_length: int | None = None,
        tensor_parallel: int = 1,
    ) -> None:
        _check_usable(adapter)
        source, config, self._tokenizer = load_config_and_tokenizer(model)
        self._context: int = max_length or config.get_text_config().max_position_embeddings
        self._ends = find_end_tokens(self._tokenizer, None)
        self._has_gpus = _connect_to_ray(workers)
        check_quantization(model, config, self._has_gpus)
        dtype = dtype or choose_vllm_dtype(config, quantization, self._has_gpus)
        share = memory_share / workers
        settings = {
            "dtype": dtype or "auto",
            "quantization": quantization,
            "gpu_memory_utilization": memory_share,
            "kv_cache_memory_bytes": None
            if self._has_gpus
            else compute_cache_bytes(model, Path(source), config, dtype, share),
            "max_model_len": max_length,
            "tensor_parallel_size": tensor_parallel,
            "enable_prefix_caching": True,
            "enforce_eager": not self._has_gpus,
        }
        with explain_model_errors(model):
            self._processor = _make_processor(str(source), workers, settings, self._has_gpus)
        self.usage = Usage()
        self._one_at_a_time = threading.Lock()
        self._tickets_left = 0
        atexit.register(self.close)  # runs before Ray's own handler: a stream left open keeps the program from ending
        with self._explain_stream_errors(ModelError, f"cannot load the model {model!r}"):
            list(self._iterate_answers(self._make_tickets([self._ends[:1]], [0], Sampling(max_tokens=1))))

    @classmethod
    def from_sections(cls, models: Models, speed: Speed) -> Self:
        """Load the generator that a configuration names; errors as the class."""
        return cls(
            models.generator,
            workers=speed.workers,
            adapter=models.adapter,
            dtype=speed.dtype,
            quantization=speed.quantization,
            memory_share=speed.memory_share,
            max_length=speed.max_length,
            tensor_parallel=speed.tensor_parallel,
        )

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, advance: Callable[[int], None] = ignore_progress
    ) -> list[str | None]:
        """See `Engine`."""
        encoded = [encode_prompt(prompt, self._tokenizer) for prompt in prompts]
        fitting = find_fitting_prompts(encoded, self._context, sampling.max_tokens)
        advance(len(prompts) - len(fitting))
        texts: list[str | None] = [None] * len(prompts)
        reasons = []
        tickets = self._make_tickets(encoded, fitting, sampling)
        with self._one_at_a_time, self._explain_stream_errors(EngineError, "failed in the middle of a batch"):
            for row in self._iterate_answers(tickets):
                if row["number"] == _PADDING:
                    continue
                if row.get("__inference_error__"):
                    reasons.append(row["__inference_error__"])
                else:
                    texts[int(row["number"])] = cut_at_stop(row["text"], sampling.stop)
                    self.usage += Usage(int(row["read"]), int(row["written"]))
                advance(1)
        if reasons:
            _logger.warning("%d of %d requests failed, the first: %s", len(reasons), len(fitting), reasons[0])
        if fitting and len(reasons) == len(fitting):
            raise EngineError(f"vLLM refused every prompt of the batch ({reasons[0]}); fix the cause, then resume.")
        return texts

    def close(self) -> None:
        """End the workers and free their memory; the next call starts others."""
        import ray

        self._tickets_left = 0
        if hasattr(self, "_stream"):
            del self._stream
            ray.kill(self._desk)

    def _make_tickets(self, encoded: list[list[int]], indices: list[int], sampling: Sampling) -> list[Any]:
        """Put the prompts at these indices into tables of equal size, the last one padded: Ray Data waits for whole
        batches."""
        seeds = np.random.SeedSequence(sampling.seed).generate_state(len(indices)).tolist()
        common = {"temperature": sampling.temperature, "top_p": sampling.top_p, "stop": list(sampling.stop)}
        common |= {"max_tokens": sampling.max_tokens, "stop_token_ids": self._ends}
        rows = [
            {"number": index, "tokenized_prompt": encoded[index], "sampling_params": common | {"seed": seed}}
            for index, seed in zip(indices, seeds if self._has_gpus else [None] * len(indices), strict=True)
        ]
        if rows:
            filler = {"number": _PADDING, "tokenized_prompt": encoded[indices[0]][:1]}
            rows += [filler | {"sampling_params": common | {"max_tokens": 1}}] * (-len(rows) % _TICKET_PROMPTS)
        return [
            _make_prompt_table(rows[start : start + _TICKET_PROMPTS]) for start in range(0, len(rows), _TICKET_PROMPTS)
        ]

    def _iterate_answers(self, tickets: list[Any]) -> Iterator[_Row]:
        """Post the tickets; yield a row for each of their prompts, in any order."""
        import ray

        while tickets:
            if not self._tickets_left:
                self._start_stream()
            batch, tickets = tickets[: self._tickets_left], tickets[self._tickets_left :]
            for ticket in batch:
                ray.get(self._desk.post.remote(_STREAM_TICKETS - self._tickets_left, ticket))
                self._tickets_left -= 1
            expected = sum(ticket.num_rows for ticket in batch)
            while expected:
                columns = next(self._stream)
                rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
                expected -= len(rows)
                yield from rows

    def _start_stream(self) -> None:
        """Start a new stream of empty tickets."""
        import ray

        self.close()
        self._desk: Any = ray.remote(Desk).options(num_cpus=0, max_concurrency=1000).remote()
        tickets = ray.data.from_items(list(range(_STREAM_TICKETS)), override_num_blocks=_STREAM_TICKETS)
        waiting = tickets.map_batches(partial(_draw_ticket, self._desk), batch_size=1, compute=_limit_processes())
        # No prefetching: it would hold a batch back until the next one comes.
        self._stream = iter(self._processor(waiting).iter_batches(batch_size=None, prefetch_batches=0))
        self._tickets_left = _STREAM_TICKETS

    @contextmanager
    def _explain_stream_errors(self, error_class: type[PretextError], problem: str) -> Iterator[None]:
        """End the workers on any error, an interruption too, and explain it; the next call starts others."""
        try:
            yield
        except Exception as error:
            self.close()
            reason = (str(error).strip().splitlines() or [""])[-1][:300]
            raise error_class(
                f"Ray's workers {problem} ({type(error).__name__}: {reason}); see Ray's logs in /tmp/ray, fix the "
                "cause, then resume: nothing done is lost."
            ) from None
        except BaseException:
            self.close()
            raise


class Desk:
    """A process where prompts wait until a task draws their ticket."""

    def __init__(self) -> None:
        self._tables: dict[int, asyncio.Future[Any]] = {}

    async def post(self, ticket: int, table: Any) -> None:
        """Post the prompts of a ticket."""
        self._slot(ticket).set_result(table)

    async def draw(self, ticket: int) -> Any:
        """Wait for the prompts of a ticket; every call returns the same ones."""
        return await asyncio.shield(self._slot(ticket))

    def _slot(self, ticket: int) -> asyncio.Future[Any]:
        return self._tables.setdefault(ticket, asyncio.get_running_loop().create_future())


def _draw_ticket(desk: Any, batch: _Row) -> Any:
    """Wait at the desk for the prompts of a ticket, as a step of Ray Data."""
    import ray

    return ray.get(desk.draw.remote(int(batch["item"][0])))


def _make_answer_row(row: _Row) -> _Row:
    return {
        "number": row["number"],
        "text": row["generated_text"],
        "read": row["num_input_tokens"],
        "written": row["num_generated_tokens"],
    }


def _make_prompt_table(rows: list[_Row]) -> Any:
    """Make a table whose column types do not depend on the rows."""
    import pyarrow

    integer, real = pyarrow.int64(), pyarrow.float64()
    sampling = [("max_tokens", integer), ("temperature", real), ("top_p", real), ("seed", integer)]
    sampling += [("stop", pyarrow.list_(pyarrow.string())), ("stop_token_ids", pyarrow.list_(integer))]
    columns = [
        ("number", integer),
        ("tokenized_prompt", pyarrow.list_(integer)),
        ("sampling_params", pyarrow.struct(sampling)),
    ]
    return pyarrow.Table.from_pylist(rows, pyarrow.schema(columns))


def _check_usable(adapter: str | None) -> None:
    if adapter is not None:
        raise UsageError("The engine ray takes no LoRA adapter (models.adapter); merge it into the model, or use vllm.")
    if not (importlib.util.find_spec("ray") and importlib.util.find_spec("vllm")):
        raise ModelError(
            "The engine ray needs the packages Ray and vLLM, which are not installed; run `pip install "
            "'pretext[ray,vllm]'` (without a GPU: 'pretext[ray,cpu]'), or use another engine."
        )


def _connect_to_ray(workers: int) -> bool:
    """Join the cluster of RAY_ADDRESS or start Ray on this machine, quietly; return whether it has GPUs."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if not ray.is_initialized():
        cores = max(os.cpu_count() or 1, workers + 2 * _DESK_PROCESSES)  # for Ray's bookkeeping, not the real number
        local = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": 2**29}
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(log_to_driver=False, logging_level="WARNING", **({} if os.environ.get("RAY_ADDRESS") else local))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own would end this program silently
    return bool(ray.cluster_resources().get("GPU"))


def _make_processor(source: str, workers: int, engine: dict[str, Any], cuda: bool) -> Any:
    """Build Ray's processor from token ids through vLLM to texts; `engine` holds vLLM's own arguments."""
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    environment = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if not cuda:
        threads = max(1, (os.cpu_count() or 1) // workers)
        environment |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}
    settings = vLLMEngineProcessorConfig(
        model_source=source,
        engine_kwargs=engine,
        concurrency=(workers, workers),
        batch_size=_TICKET_PROMPTS,
        max_concurrent_batches=_TICKETS_AT_ONCE,
        should_continue_on_error=True,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        log_engine_metrics=False,
        placement_group_config=None if cuda else {"bundles": [{"CPU": 1}]},
        runtime_env={"env_vars": {name: value for name, value in environment.items() if name not in os.environ}},
    )
    limit = {"compute": _limit_processes()}
    return build_processor(
        settings, postprocess=_make_answer_row, preprocess_map_kwargs=limit, postprocess_map_kwargs=limit
    )


def _limit_processes() -> Any:
    """Limit the processes of a step; the same limit everywhere lets Ray Data fuse drawing, waiting and preparing."""
    from ray.data import TaskPoolStrategy

    return TaskPoolStrategy(size=_DESK_PROCESSES)
