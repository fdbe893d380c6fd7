"""What a command prints: results on standard output, all else on standard error, and never a control character.

Names of datasets, files and labels come from outside. On a terminal, a control character in one could move the cursor,
change colors or set the clipboard, and one that reverses the direction of writing could make a name look like another.
"""

from __future__ import annotations

import re
from contextlib import suppress

import click

# C0 and C1 controls but tab and line feed; marks of direction; line and paragraph separators; lone surrogates.
_CONTROLS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff\\ud800-\\udfff]"
)


def print_result(text: object) -> None:
    """Print an answer on standard output. Raises OSError if it cannot be written."""
    click.echo(escape_controls(str(text)))


def print_note(text: object) -> None:
    """Print a sentence about the work on standard error; where that cannot be written, nobody is there to read it."""
    with suppress(OSError):
        click.echo(escape_controls(str(text)), err=True)


def escape_controls(text: str) -> str:
    """Write control characters as \\uXXXX, which JSON reads as the same character."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
