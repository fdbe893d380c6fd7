"""Generate with vLLM in a process of its own: all prompts at once, shared prefixes computed once.

vLLM seeds every random generator that it finds, writes to the standard streams and never frees its memory. None of that
reaches this process: `vllm_worker`, which runs in the child, is the only module that imports vLLM.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pretext.errors import EngineError, ModelError, UsageError
from pretext.models.adapters import resolve_adapter
from pretext.models.chat_format import encode_prompt, find_end_tokens
from pretext.models.engines import Sampling, Usage, cut_at_stop, find_fitting_prompts, ignore_progress
from pretext.models.engines.subprocess import ChildEnded, ChildProcess
from pretext.models.precision import choose_dtype, read_layer_sizes
from pretext.models.sources import explain_model_errors, is_quantized, resolve_generator
from pretext.prompts import Prompt

if TYPE_CHECKING:
    from pretext.config.settings import Models, Speed

_SMALLEST_CACHE = 2**26  # bytes
_NOTHING_LOST = (
    "nothing done is lost: make it need less memory (speed.memory_share, speed.max_length, speed.chunk), then resume."
)


@dataclass(frozen=True)
class ModelSpec:
    """What the child loads; None leaves the choice to vLLM.

    Attributes:
        ends: ids of the tokens that end an answer, besides the model's own.
        cache: size of the key-value cache in bytes.
    """

    source: str
    ends: list[int]
    adapter: str | None
    dtype: str | None
    quantization: str | None
    memory_share: float
    cache: int | None
    max_length: int | None
    tensor_parallel: int


@dataclass(frozen=True)
class ModelReady:
    """The child has loaded the model, whose context is in tokens."""

    context: int


@dataclass(frozen=True)
class PromptBatch:
    """Prompts as token ids."""

    prompts: list[list[int]]
    sampling: Sampling


@dataclass(frozen=True)
class Completion:
    """The completion of the prompt at `index` of a batch.

    Attributes:
        read: tokens of the prompt.
        cached_tokens: those among them that came from the cache of prefixes.
        written: tokens of the completion.
    """

    index: int
    text: str
    read: int
    cached_tokens: int
    written: int


@dataclass(frozen=True)
class WorkerFailure:
    """Why the child gives up; empty where only its log says so."""

    reason: str


class VLLMEngine:
    """A causal language model in vLLM.

    On CUDA every request has its own seed. vLLM's CPU build fails on many seeded requests, so there one generator,
    seeded for the whole batch, draws for all of them. After a failure or an interruption the next call starts a new
    process.

    Args:
        model: as in `pretext.models.sources.resolve_generator`.
        adapter: folder or Hugging Face name of a LoRA adapter of the model.
        dtype: name of a torch dtype; default: see `choose_vllm_dtype`.
        quantization: vLLM's name for the quantization of the weights; default: as the model's configuration says.
        memory_share: share of the device's memory that vLLM may take, weights included.
        max_length: longest prompt plus answer, in tokens; default: the model's context.
        tensor_parallel: number of GPUs over which the model is split.

    Attributes:
        cached_tokens: tokens of `usage.read` that were not computed, because an earlier prompt began with them.
        model: what the child loads.
        tokenizer: the model's.
        environment: the child's variables that override those of this process.

    Raises:
        ModelError: vLLM is not installed, or the model cannot be found or loaded, or does not fit.
        UsageError: `max_length` is beyond the model's context.
    """

    def __init__(
        self,
        model: str,
        *,
        adapter: str | None = None,
        dtype: str | None = None,
        quantization: str | None = None,
        memory_share: float = 0.3,
        max_length: int | None = None,
        tensor_parallel: int = 1,
    ) -> None:
        _check_installed()
        import torch

        source, config, self.tokenizer = load_config_and_tokenizer(model)
        _check_context(model, config, max_length)
        cuda = torch.cuda.is_available()
        check_quantization(model, config, cuda)
        self.environment = _make_worker_environment(cuda)
        dtype = dtype or choose_vllm_dtype(config, quantization, cuda)
        self.model = ModelSpec(
            str(source),
            find_end_tokens(self.tokenizer, None),
            None if adapter is None else str(resolve_adapter(adapter, model)),
            dtype,
            quantization,
            memory_share,
            None if cuda else compute_cache_bytes(model, Path(source), config, dtype, memory_share),
            max_length,
            tensor_parallel,
        )
        self._name = model
        self.usage = Usage()
        self.cached_tokens = 0
        self._one_at_a_time = threading.Lock()
        self._child, self._context = self._start_child()

    @classmethod
    def from_sections(cls, models: Models, speed: Speed) -> Self:
        """Load the generator that a configuration names; errors as the class."""
        return cls(
            models.generator,
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
        encoded = [encode_prompt(prompt, self.tokenizer) for prompt in prompts]
        fitting = find_fitting_prompts(encoded, self._context, sampling.max_tokens)
        texts: list[str | None] = [None] * len(prompts)
        advance(len(prompts) - len(fitting))
        if not fitting:
            return texts
        with self._one_at_a_time, self._use_child() as child:
            child.send(PromptBatch([encoded[index] for index in fitting], sampling))
            for _ in fitting:
                answer: Completion | WorkerFailure = child.receive()
                if isinstance(answer, WorkerFailure):
                    raise EngineError(f"vLLM failed in the middle of a batch ({answer.reason}); {_NOTHING_LOST}")
                texts[fitting[answer.index]] = cut_at_stop(answer.text, sampling.stop)
                self.usage += Usage(answer.read, answer.written)
                self.cached_tokens += answer.cached_tokens
                advance(1)
        return texts

    @property
    def pid(self) -> int:
        """The id of vLLM's process, which is also the id of its process group."""
        return self._child.pid

    def close(self) -> None:
        """End vLLM's process and free its memory; the next call starts another one."""
        self._child.close()

    @contextmanager
    def _use_child(self) -> Iterator[ChildProcess]:
        """Lend the running child; any error, an interruption too, ends it together with its unread answers."""
        if not self._child.is_running:
            self._child, self._context = self._start_child()
        try:
            yield self._child
        except ChildEnded as error:
            raise EngineError(f"vLLM's process {error} in the middle of a batch; {_NOTHING_LOST}") from None
        except BaseException:
            self._child.close()
            raise

    def _start_child(self) -> tuple[ChildProcess, int]:
        """Start a child and load the model; return the child and the model's context in tokens."""
        child = ChildProcess("pretext.models.engines.vllm_worker", self.environment)
        try:
            child.send(self.model)
            answer: ModelReady | WorkerFailure = child.receive()
            if isinstance(answer, WorkerFailure):
                raise ModelError(_explain_start_failure(self._name, answer.reason or child.last_error()))
        except ChildEnded as error:
            raise ModelError(_explain_start_failure(self._name, f"its process {error}")) from None
        except BaseException:
            child.close()
            raise
        return child, answer.context


def load_config_and_tokenizer(name: str) -> tuple[Path | str, Any, Any]:
    """Load a generator's configuration and tokenizer, without its weights; return them behind its source.

    Raises:
        ModelError: as `resolve_generator`, or a file of the model is damaged.
    """
    source = resolve_generator(name)
    with explain_model_errors(name):
        from transformers import AutoConfig, AutoTokenizer

        return source, AutoConfig.from_pretrained(source), AutoTokenizer.from_pretrained(source)


def _check_installed() -> None:
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(
            "The engine vllm needs the package vLLM, which is not installed; run `pip install 'pretext[vllm]'` on a "
            "machine with a CUDA GPU, `pip install 'pretext[cpu]'` on one without, or use the engine transformers."
        )


def _explain_start_failure(name: str, reason: str) -> str:
    remedy = (
        "take a smaller or a quantized model, or change speed.memory_share or speed.max_length"
        if "memory" in reason
        else "check that vLLM knows this kind of model and that its files are whole, or use the engine transformers"
    )
    return f"vLLM cannot start with the model {name!r} ({reason.rstrip('.')}); {remedy}."


def _check_context(name: str, config: Any, max_length: int | None) -> None:
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if context is not None and max_length is not None and max_length > context:
        raise UsageError(
            f"speed.max_length is {max_length}, but the context of the model {name!r} is {context} tokens; set it to "
            "at most that, or leave it out."
        )


def choose_vllm_dtype(config: Any, quantization: str | None, cuda: bool) -> str | None:
    """Choose float32 on a CPU that is slow at bfloat16; otherwise, and for quantized weights, None: the model's own.

    A CPU without bfloat16 instructions takes four times as long for it.
    """
    if cuda or quantization is not None or is_quantized(config):
        return None
    return "float32" if choose_dtype("cpu", *read_layer_sizes(config)) == "float32" else None


def check_quantization(name: str, config: Any, cuda: bool) -> None:
    """Raise ModelError for a model that vLLM 0.32 silently computes wrongly.

    That is a model whose weights and activations have 8 bits, on a processor without AVX-512.
    """
    import torch

    if cuda or not is_quantized(config) or "AVX512" in torch.backends.cpu.get_cpu_capability():
        return
    groups = config.quantization_config.get("config_groups", {}).values()
    activations = [group.get("input_activations") or {} for group in groups if isinstance(group, dict)]
    if any((scheme.get("type"), scheme.get("num_bits")) == ("int", 8) for scheme in activations):
        raise ModelError(
            f"The model {name!r} computes in 8 bits, which vLLM gets wrong on a processor without AVX-512; use the "
            "engine transformers, or weights that are not quantized."
        )


def compute_cache_bytes(name: str, folder: Path, config: Any, dtype: str | None, memory_share: float) -> int | None:
    """Compute the bytes that vLLM's share of the main memory leaves for its cache, beside the weights.

    None where the weights are not in the folder.

    Raises:
        ModelError: the share is too small.
    """
    import torch

    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if not weights:
        return None
    if dtype is not None and config.dtype is not None and not is_quantized(config):
        weights = weights * getattr(torch, dtype).itemsize // config.dtype.itemsize
    allowed = int(memory_share * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if weights + _SMALLEST_CACHE > allowed:
        raise ModelError(
            f"The model {name!r} is too large: its weights take {weights / 2**30:.2f} GiB, and speed.memory_share = "
            f"{memory_share:g} allows {allowed / 2**30:.2f} GiB for weights and cache; raise it, or take a smaller or "
            "a quantized model."
        )
    return allowed - weights


def _make_worker_environment(cuda: bool) -> dict[str, str]:
    """Choose vLLM's environment variables, except those that the user has set."""
    variables = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", "TOKENIZERS_PARALLELISM": "false"}
    if not cuda:
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        variables |= {
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(cores))),
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process fewer to start and to wait for
        }
    return {name: value for name, value in variables.items() if name not in os.environ}
