"""A run's guarantee, models and sizes in words, for the report and the card."""

from __future__ import annotations

import math
from pathlib import Path

from pretext.config.settings import Models

_EMBEDDED = {"generator": "SmolLM2-135M-Instruct", "embedder": "all-MiniLM-L6-v2"}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def guess_probability(epsilon: float, delta: float) -> float:
    """Bound how often the guess is right which of two equally likely neighboring datasets was used.

    A test with error rates a and b has e^epsilon a + b >= 1 - delta and the same with a and b exchanged (Kairouz, Oh
    and Viswanath 2015), so a + b >= 2 (1 - delta) / (1 + e^epsilon); the guess is right with chance 1 - (a + b) / 2.
    """
    odds = math.exp(-epsilon)
    return 1 - (1 - delta) * odds / (1 + odds)


def percent_up(share: float) -> str:
    """Format a share in percent, rounded up to a tenth."""
    return f"{min(math.ceil(share * 1000 - 1e-9) / 10, 100):.1f} %"


def factor_up(epsilon: float) -> str:
    """Format e^epsilon, rounded up."""
    factor = math.exp(min(epsilon, 100))
    return f"{math.ceil(factor * 100) / 100:,.2f}" if factor < 1e6 else "more than a million"


def format_odds(delta: float) -> str:
    """Format delta as "1 in n", never the smaller chance."""
    return f"1 in {math.floor(1 / delta * (1 + 1e-9)):,}"


def generator_name(models: Models) -> str:
    """Name the model that wrote the texts."""
    adapter = "" if models.adapter is None else f" with the adapter {_public_name(models.adapter)}"
    return base_generator_name(models) + adapter


def base_generator_name(models: Models) -> str:
    """Name the generator without its adapter."""
    return _EMBEDDED["generator"] if models.generator == "embedded" else _public_name(models.generator)


def embedder_name(models: Models) -> str:
    """Name the model that embedded the texts."""
    return _EMBEDDED["embedder"] if models.embedder == "embedded" else _public_name(models.embedder)


def _public_name(model: str) -> str:
    """Return a Hugging Face name as it is, and the last part of a folder: its path is nobody's business."""
    path = Path(model).expanduser()
    return path.name if path.is_absolute() or model.startswith(".") else model


def size_category(texts: int) -> str:
    """Return Hugging Face's name for a number of rows."""
    return next((name for limit, name in _SIZES if texts < limit), "1M<n<10M" if texts < 10_000_000 else "n>10M")
