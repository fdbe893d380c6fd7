"""The command line. A command parses, calls one function and prints what it returns.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

import click

from pretext.cli.audit import audit
from pretext.cli.evaluate import evaluate
from pretext.cli.fred import fred
from pretext.cli.ledger import ledger
from pretext.cli.memorization import memorization
from pretext.cli.options import OrderedGroup
from pretext.cli.privacy import privacy
from pretext.cli.report import export, report
from pretext.cli.run import expand, init, plan, resume, run
from pretext.cli.split import split
from pretext.cli.student import student

EXIT_CODES = "Exit codes: 0 done, 1 failure, 2 wrong use, 3 refused by the budget, 4 interrupted and resumable."
_COMMANDS = (
    init,
    plan,
    run,
    resume,
    expand,
    report,
    export,
    split,
    student,
    evaluate,
    memorization,
    fred,
    privacy,
    audit,
    ledger,
)


@click.group(cls=OrderedGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pretext")
def cli() -> None:
    """Turn texts that must not leave their owners into synthetic texts with a differential-privacy guarantee."""


def _state_exit_codes(command: click.Command) -> None:
    """End the help of a command, and of the commands below it, with the exit codes."""
    command.epilog = EXIT_CODES
    for subcommand in command.commands.values() if isinstance(command, click.Group) else ():
        _state_exit_codes(subcommand)


for _command in _COMMANDS:
    cli.add_command(_command)
_state_exit_codes(cli)


def main() -> NoReturn:
    """Run the command line; an error of ours ends in one sentence, with the exit code of its class."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("pretext").setLevel(logging.INFO)
    _end_in_order()
    try:
        code = cli.main(prog_name="pretext", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        code = _print_error(error)
    sys.exit(code)


def _end_in_order() -> None:
    """End on SIGTERM and SIGHUP as on Ctrl-C: with everything saved, and exit code 4."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Windows has no SIGHUP, and `nohup` asks us to ignore it.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def _print_error(error: Exception) -> int:
    """Print an error of ours in one sentence and return its exit code; raise any other again."""
    from pretext.errors import Interrupted, PretextError  # not above: `pretext --help` would pay for it

    if isinstance(error, click.Abort):
        error = Interrupted("Interrupted.")
    if not isinstance(error, PretextError):
        raise error
    with suppress(OSError):  # after SIGHUP the terminal may be gone
        click.echo(str(error), err=True)
    return error.exit_code
