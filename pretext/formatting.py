"""Formatting."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """A count in words: 1 release, 2 releases; only for what takes an s."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
