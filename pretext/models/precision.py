"""Precision."""

from __future__ import annotations

import functools
import time
from typing import Any

from pretext.errors import UsageError

_MAX_PRODUCTS, _MAX_SECONDS, _REQUIRED_SPEEDUP = 5, 0.3, 1.25  # per dtype, seconds, how much faster bfloat16 must be


def check_device(name: str) -> None:
    """Raises UsageError if torch does not see the device."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):
        raise UsageError(f"The device {name!r} is not there; give cpu, or a device that torch sees here.") from None


@functools.lru_cache
def preferred_dtype(device: str | None, width: int = 512, inner: int = 2048) -> str:
    """The dtype that the device is fast at, `bfloat16` or `float32`; without a device, for the best one there is.

    On a CPU both are tried, once per process and in about a tenth of a second, on a matrix product of a model with
    `width` hidden units and `inner` units within a layer. bfloat16 has to win clearly, as it rounds more.
    """
    import torch

    if (device or "cuda").startswith("cuda") and torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device is not None and device != "cpu":
        return "float32"
    fast, exact = (_time_product(dtype, width, inner) for dtype in (torch.bfloat16, torch.float32))
    return "bfloat16" if _REQUIRED_SPEEDUP * fast < exact else "float32"


def layer_sizes(config: Any) -> tuple[int, int]:
    """`width` and `inner` of `preferred_dtype`, from a model's configuration."""
    sizes = config.get_text_config()
    width = getattr(sizes, "hidden_size", 512)
    return width, getattr(sizes, "intermediate_size", None) or 4 * width


def _time_product(dtype: Any, width: int, inner: int) -> float:
    """Seconds for (512 tokens, width) times (width, inner); the least of some, which other processes disturb least."""
    import torch

    # Smaller ones measure how long a call takes; larger ones tell the same and take longer.
    width, inner = min(max(width, 256), 1024), min(max(inner, 512), 4096)
    tokens, weights = torch.ones(512, width, dtype=dtype), torch.ones(inner, width, dtype=dtype)
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= _MAX_PRODUCTS and sum(seconds) < _MAX_SECONDS):
        start = time.perf_counter()
        torch.nn.functional.linear(tokens, weights)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])  # the first one prepares the kernel
