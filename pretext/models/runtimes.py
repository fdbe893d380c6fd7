"""Run an embedder's transformer on torch, or with OpenVINO on the CPU; measure which one is faster.

OpenVINO (extra `openvino`) takes the module that sentence-transformers loaded, traced in memory. Measuring and
comparing use public sentences only.
"""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import importlib.util
import json
import logging
import platform
import queue
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pretext.errors import ModelError, UsageError
from pretext.files import write_atomically
from pretext.home import model_cache_folder
from pretext.models.precision import choose_dtype

if TYPE_CHECKING:
    import torch

Features: TypeAlias = dict[str, Any]

SAMPLE_TEXTS = (
    "The meeting is moved to Thursday.",
    "Which of the two drivers do I need for this printer?",
    "I have tried to mount the disk again, but after a restart the screen stays black and nothing else happens.",
    "Thanks, that worked!",
    "Add the onions and the butter, wait until they are soft, then pour in the wine and let it boil down by half.",
    "ok",
    "Our train was two hours late, so we missed the ferry and stayed in a small hotel by the harbor for the night.",
    "Please close the window before you leave.",
) * 2
"""Public sentences, as short and mixed as messages are, for `open_fastest_runtime` to measure with."""

_MIN_COSINE = 0.99
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runtime:
    """Name (`torch` or `openvino`) and dtype of what computes."""

    name: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} in {self.dtype}"


@dataclass(frozen=True)
class RuntimeSession:
    """A transformer, ready to compute.

    Attributes:
        runtime: what it runs on.
        forward: maps the features of a batch to these features and the module's output; thread-safe.
        parallel_batches: number of batches to compute at the same time.
    """

    runtime: Runtime
    forward: Callable[[Features], Features]
    parallel_batches: int = 1

    def run_all(self, batches: Iterable[Features]) -> Iterator[Features]:
        """Run `forward` on every batch, in order."""
        if self.parallel_batches == 1:
            yield from map(self.forward, batches)
            return
        with ThreadPoolExecutor(self.parallel_batches) as pool:
            yield from pool.map(self.forward, batches)


def list_runtimes(device: str, name: str | None, dtype: str | None) -> list[Runtime]:
    """List the installed runtimes with this name and dtype; None allows any.

    Raises:
        UsageError: the name is openvino, which is not installed or supports neither the device nor the dtype.
    """
    if name == "openvino":
        _check_openvino(device, dtype)
    if device != "cpu":
        return [Runtime("torch", dtype or choose_dtype(device))]
    fast = choose_dtype(device) == "bfloat16"
    dtypes = [dtype] if dtype else ["float32", "bfloat16"] if fast else ["float32"]
    names = [name] if name else ["torch", "openvino"] if _has_openvino() else ["torch"]
    runtimes = [Runtime(name, precision) for name in names for precision in dtypes]
    return [runtime for runtime in runtimes if runtime != Runtime("openvino", "float16")]


def open_fastest_runtime(
    module: torch.nn.Module, sample: Features, runtimes: Sequence[Runtime], model: str
) -> RuntimeSession:
    """Open the runtime that computes the sample fastest.

    The measurement runs once per model, processor, number of threads and library versions; its result is stored beside
    the converted models.

    Args:
        module: the first module of a sentence-transformers model, in float32 on the CPU unless there is only one
            runtime to choose from.
        sample: its features for `SAMPLE_TEXTS`.
        runtimes: the result of `list_runtimes`.
        model: name or folder of the model.

    Raises:
        ModelError: none of them can run the module.
    """
    key = " | ".join([model, _describe_machine(), *map(str, runtimes)])
    saved = _load_choices().get(key)
    candidates = [runtime for runtime in runtimes if str(runtime) == saved] or list(runtimes)
    convert = functools.cache(lambda: _convert_to_openvino(module, sample))
    sessions = [session for runtime in candidates if (session := _open_session(module, sample, runtime, convert))]
    if not sessions:
        names = " or ".join(map(str, candidates))
        raise ModelError(f"The model {model!r} cannot be run by {names}; set speed.embed_runtime to torch.")
    if len(sessions) == 1:
        return sessions[0]
    best = min(sessions, key=lambda session: _time_batch(session, sample))
    _save_choice(key, str(best.runtime))
    _log.info("The embedder runs on %s, the fastest on this processor.", best.runtime)
    return best


def _time_batch(session: RuntimeSession, sample: Features) -> float:
    """Time a batch: the least of three tries, in seconds. Other processes can only make a try longer."""
    tries = []
    for _ in range(4):  # the first one prepares kernels for the shape
        start = time.perf_counter()
        list(session.run_all([sample] * session.parallel_batches))
        tries.append((time.perf_counter() - start) / session.parallel_batches)
    return min(tries[1:])


def _open_session(
    module: torch.nn.Module, sample: Features, runtime: Runtime, convert: Callable[[], OpenVINOModel]
) -> RuntimeSession | None:
    """Open the module on a runtime; where it cannot be converted faithfully, log why and return None."""
    if runtime.name == "torch":
        return _open_torch_session(module, runtime)
    try:
        session = _open_openvino_session(convert(), runtime)
        agreement = _measure_agreement(module, session.forward, sample)
    except Exception as error:  # the converter meets any architecture and may raise anything
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        _log.info("The embedder cannot run on %s (%s: %s).", runtime, type(error).__name__, reason)
        return None
    if not agreement >= _MIN_COSINE:
        _log.info("The embedder does not run on %s, whose results differ (cosine %.3f).", runtime, agreement)
        return None
    return session


def _open_torch_session(module: torch.nn.Module, runtime: Runtime) -> RuntimeSession:
    import torch

    dtype: torch.dtype = getattr(torch, runtime.dtype)
    if next((weight.dtype for weight in module.parameters()), dtype) != dtype:
        module = copy.deepcopy(module).to(dtype)
    return RuntimeSession(runtime, functools.partial(_run_module, module))


def _open_openvino_session(converted: OpenVINOModel, runtime: Runtime) -> RuntimeSession:
    import openvino
    import torch

    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[runtime.dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # other work on the same cores would wait for ours
    }
    compiled = openvino.Core().compile_model(converted.model, "CPU", settings)
    parallel_batches = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(parallel_batches):
        requests.put(compiled.create_infer_request())

    def forward(features: Features) -> Features:
        request = requests.get()
        try:
            output = request.infer([features[name].numpy() for name in converted.inputs], share_inputs=True)[0]
        finally:
            requests.put(request)
        return {**features, converted.output: torch.from_numpy(output)}

    return RuntimeSession(runtime, forward, parallel_batches)


@dataclass(frozen=True)
class OpenVINOModel:
    """A converted module, with the feature names of its inputs, in order, and of its output."""

    model: Any
    inputs: list[str]
    output: str


def _convert_to_openvino(module: torch.nn.Module, sample: Features) -> OpenVINOModel:
    """Convert the module for batches of any size and length.

    Call the frontend itself: `openvino.convert_model` does the same, but reports every use to Intel.
    """
    import openvino
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    names = [name for name, value in sample.items() if isinstance(value, torch.Tensor)]
    output = next(name for name in _run_module(module, sample) if name not in sample)

    def function(*tensors: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = module(dict(zip(names, tensors, strict=True)))[output]
        return states

    for weight in module.parameters():
        weight.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of every branch; `_measure_agreement` checks the result
        # Two rows are enough to trace; with all of them, the tracer may take sizes that happen to be equal for one.
        trace: Any = torch.jit.trace
        traced = trace(function, tuple(sample[name][:2] for name in names), check_trace=False, strict=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # in a variable: the frontend holds no reference of its own
    model = frontend.convert(frontend.load(decoder))
    model.reshape({port: openvino.PartialShape([-1, -1]) for port in model.inputs})
    return OpenVINOModel(model, names, output)


def _run_module(module: torch.nn.Module, features: Features) -> Features:
    import torch

    with torch.inference_mode():
        return dict(module(dict(features)))


def _measure_agreement(module: torch.nn.Module, forward: Callable[[Features], Features], sample: Features) -> float:
    """Compute the mean cosine between the rows of torch and of another runtime, padding left out."""
    import torch

    expected, actual = _run_module(module, sample), forward(sample)
    name = next(name for name in expected if name not in sample)
    left, right = expected[name].float(), actual[name].float()
    if left.shape != right.shape:
        return 0.0
    cosines = torch.nn.functional.cosine_similarity(left, right, dim=-1)
    return float(cosines[sample["attention_mask"].bool()].mean() if cosines.ndim == 2 else cosines.mean())


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def _check_openvino(device: str, dtype: str | None) -> None:
    if not _has_openvino():
        raise UsageError(
            "speed.embed_runtime is openvino, but the package openvino is not installed; run "
            "`pip install 'pretext[openvino]'`, or set speed.embed_runtime to torch."
        )
    if device != "cpu" or dtype == "float16":
        raise UsageError(
            "speed.embed_runtime openvino runs on the processor, in float32 or bfloat16; set speed.device to cpu and "
            "speed.dtype to one of these, or speed.embed_runtime to torch."
        )


def _describe_machine() -> str:
    """Name all that a measurement depends on: processor, threads and library versions."""
    import torch

    processor = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    except OSError:
        pass
    openvino = importlib.metadata.version("openvino") if _has_openvino() else "none"
    return f"{processor} | {torch.get_num_threads()} threads | torch {torch.__version__} | openvino {openvino}"


def _choices_file() -> Path:
    return model_cache_folder() / "embedder-runtimes.json"


def _load_choices() -> dict[str, str]:
    try:
        choices = json.loads(_choices_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return choices if isinstance(choices, dict) else {}


def _save_choice(key: str, choice: str) -> None:
    """Store the choice, if the file can be written; otherwise the next start measures again."""
    try:
        _choices_file().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_choices_file(), json.dumps({**_load_choices(), key: choice}, indent=1))
    except OSError as error:
        _log.info("The choice of a runtime cannot be stored (%s).", error.strerror)
