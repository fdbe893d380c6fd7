"""Formatting."""

from __future__ import annotations


def format_count(number: int, noun: str) -> str:
    """A count in words: 1 release, 2 releases; only for what takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
