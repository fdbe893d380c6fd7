"""The command line. A command parses, calls one function and prints what it returns.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import NoReturn

import click

from pretext.cli.audit import audit
from pretext.cli.ending import check_arguments, end_command, prepare_streams
from pretext.cli.evaluate import evaluate
from pretext.cli.fred import fred
from pretext.cli.ledger import ledger
from pretext.cli.memorization import memorization
from pretext.cli.options import OrderedGroup
from pretext.cli.output import escape_controls
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
    prepare_streams()
    logging.raiseExceptions = False  # a log that cannot be written must not end in a traceback
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("pretext").setLevel(logging.INFO)
    _end_in_order()
    sys.exit(end_command(_run, next(iter(sys.argv[1:]), "")))


def _run() -> int | None:
    check_arguments(sys.argv[1:])
    code: int | None = cli.main(prog_name="pretext", standalone_mode=False)
    return code


class _LineFormatter(logging.Formatter):
    """Formats a line of the log, without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return escape_controls(super().format(record))


def _end_in_order() -> None:
    """End on SIGTERM and SIGHUP as on Ctrl-C: with everything saved, and exit code 4."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Windows has no SIGHUP, and `nohup` asks us to ignore it.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
