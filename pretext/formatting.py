"""Format values for people."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path


def format_count(number: int, noun: str) -> str:
    """Write a count with its noun: 1 release, 2 releases; for nouns whose plural takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def escape_markdown(text: str) -> str:
    """Escape a name for one line of Markdown: it can be neither HTML nor a link, nor end the line or a cell."""
    line = html.escape(
        re.sub(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+", " ", text), quote=False
    )
    return re.sub(r"([\\`*\[\]|])", r"\\\1", line)


def quote_path(path: Path) -> str:
    """Quote a path for a command that people copy into a shell; one that looks like an option gets `./` before it."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
