"""Format values for people."""

from __future__ import annotations


def format_count(number: int, noun: str) -> str:
    """Write a count with its noun: 1 release, 2 releases; for nouns whose plural takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
