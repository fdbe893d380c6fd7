"""Print privacy losses and budgets rounded to the safe side."""

from __future__ import annotations

import math


def round_up(value: float | None, digits: int = 4) -> str:
    """Print a privacy loss rounded up: the number shown is never below the true one.

    None stands for an infinite loss in JSON, which has no infinity.
    """
    return "infinity" if value is None or value >= 1e9 else _format_scaled(math.ceil(value * 10**digits), digits)


def round_down(value: float, digits: int = 4) -> str:
    """Print what is left of a budget rounded down."""
    return _format_scaled(math.floor(value * 10**digits), digits)


def _format_scaled(scaled: int, digits: int) -> str:
    return f"{scaled / 10**digits:.{digits}f}".rstrip("0").rstrip(".")
