"""Rounding."""

from __future__ import annotations

import math


def round_up(value: float | None, digits: int = 4) -> str:
    """`value` rounded up, for privacy losses in print: the number shown is never the better one.

    None is an infinite loss out of JSON, which has no infinity.
    """
    return "infinity" if value is None or value >= 1e9 else _rounded(math.ceil(value * 10**digits), digits)


def round_down(value: float, digits: int = 4) -> str:
    """`value` rounded down, for what is left of a budget."""
    return _rounded(math.floor(value * 10**digits), digits)


def _rounded(scaled: int, digits: int) -> str:
    return f"{scaled / 10**digits:.{digits}f}".rstrip("0").rstrip(".")
