"""The tree of commands, for the tests that look at each of them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from pretext.cli import cli


def walk_commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with its path, `("privacy", "verify")`; the program itself has the path `()`."""
    yield path, command
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            yield from walk_commands(subcommand, (*path, name))
