"""Which devices exist, how much memory is free there, and in which dtype they compute fastest."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from pretext.errors import UsageError

if TYPE_CHECKING:
    import torch

_MAX_PRODUCTS, _MAX_SECONDS, _REQUIRED_SPEEDUP = 5, 0.3, 1.25  # per dtype, seconds, how much faster bfloat16 must be


def check_device(name: str) -> None:
    """Raise UsageError if torch does not see the device."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):
        raise UsageError(f"The device {name!r} does not exist here; give cpu, or a device that torch sees.") from None


@functools.lru_cache
def choose_dtype(device: str | None, width: int = 512, inner: int = 2048) -> str:
    """Choose the dtype that the device computes faster, `bfloat16` or `float32`; default: for the best device.

    On a CPU, time both once per process, in about a tenth of a second, on the matrix product of a model with `width`
    hidden units and `inner` units within a layer. bfloat16 must win clearly, because it rounds more.
    """
    import torch

    if (device or "cuda").startswith("cuda") and torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device is not None and device != "cpu":
        return "float32"
    fast, exact = (_time_product(dtype, width, inner) for dtype in (torch.bfloat16, torch.float32))
    return "bfloat16" if _REQUIRED_SPEEDUP * fast < exact else "float32"


def find_free_memory(device: torch.device) -> int | None:
    """Find how many bytes are free on a device; None where that is not known."""
    import psutil
    import torch

    match device.type:
        case "cuda":
            return int(torch.cuda.mem_get_info(device)[0])
        case "cpu":
            return int(psutil.virtual_memory().available)
        case _:
            return None


def read_layer_sizes(config: Any) -> tuple[int, int]:
    """Read `width` and `inner` of `choose_dtype` from a model's configuration."""
    sizes = config.get_text_config()
    width = getattr(sizes, "hidden_size", 512)
    return width, getattr(sizes, "intermediate_size", None) or 4 * width


def _time_product(dtype: Any, width: int, inner: int) -> float:
    """Time (512 tokens, width) times (width, inner): the least of several tries, in seconds.

    Other processes can only make a try longer.
    """
    import torch

    # A smaller product would time the call itself; a larger one gives the same answer and takes longer.
    width, inner = min(max(width, 256), 1024), min(max(inner, 512), 4096)
    tokens, weights = torch.ones(512, width, dtype=dtype), torch.ones(inner, width, dtype=dtype)
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= _MAX_PRODUCTS and sum(seconds) < _MAX_SECONDS):
        start = time.perf_counter()
        torch.nn.functional.linear(tokens, weights)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])  # the first one prepares the kernel
