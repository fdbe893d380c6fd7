"""What several commands share: arguments, options, and how they are interrupted.

`pretext ledger` needs this module, so it imports no more than the table of flags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from pretext.config.flags import FLAGS, Flag

Command = TypeVar("Command", bound=Callable[..., Any])

config_argument = click.argument("config", type=click.Path(path_type=Path), required=False)
folder_argument = click.argument("folder", type=click.Path(path_type=Path))
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Override any setting, for example privacy.epsilon=1.29; may be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
confirm_option = click.option(
    "--confirm-new-name",
    is_flag=True,
    help="Charge a known file under a new dataset name: it now holds other people's data.",
)
accept_option = click.option(
    "--accept-changes",
    is_flag=True,
    help="Continue from files that were changed after they were sealed; the ledger records which.",
)


class OrderedGroup(click.Group):
    """A group that lists its commands in the order in which they were added, which is the order of use."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Return the names; click would sort them."""
        return list(self.commands)


def setting_options(names: Sequence[str]) -> Callable[[Command], Command]:
    """Add the options of these flags to a command; `--help` lists them in this order."""

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            command = _make_option(FLAGS[name])(command)
        return command

    return decorate


def _make_option(flag: Flag) -> Callable[[Command], Command]:
    words = flag.help if flag.setting == flag.name else f"{flag.help} [{flag.setting}]"
    if flag.type is bool:
        return click.option(flag.option, flag.name, is_flag=True, default=None, help=words)
    return click.option(flag.option, flag.name, type=flag.type, multiple=flag.is_repeated, help=words)


@contextmanager
def resumable(command: str) -> Iterator[None]:
    """Turn an interruption into the sentence that names the command to continue with.

    Raises:
        Interrupted: in place of KeyboardInterrupt; the command then ends with exit code 4.
    """
    try:
        yield
    except KeyboardInterrupt:
        from pretext.errors import Interrupted

        raise Interrupted(f"Interrupted; nothing done is lost. Continue with: {command}") from None
