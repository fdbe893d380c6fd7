"""The command line: builds objects and calls one function. Results go to standard output, everything else to standard
error.

Exit codes: 0 done, 1 failure, 2 wrong use, 3 refused by the budget, 4 interrupted and resumable.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import NoReturn

import click

from pretext.cli.audit import audit
from pretext.cli.evaluate import evaluate
from pretext.cli.fred import fred
from pretext.cli.ledger import ledger
from pretext.cli.memorization import memorization
from pretext.cli.options import print_error
from pretext.cli.privacy import privacy
from pretext.cli.report import export, report
from pretext.cli.run import expand, init, plan, resume, run
from pretext.cli.split import split
from pretext.cli.student import student


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pretext")
def cli() -> None:
    """Turn texts that must not leave their owners into synthetic texts with a differential-privacy guarantee."""


for command in (
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
):
    cli.add_command(command)


def main() -> NoReturn:
    """Entry point: one sentence and an exit code for every error that is ours."""
    from pretext.errors import PretextError, UsageError
    from privacy.errors import BudgetExceeded, InvalidParameter, LedgerConflict, PrivacyError

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("pretext").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = cli.main(standalone_mode=False) or 0
    except click.exceptions.Abort:
        code = print_error("Interrupted.", 4)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (UsageError, InvalidParameter, LedgerConflict) as error:
        code = print_error(str(error), 2)
    except BudgetExceeded as error:
        code = print_error(str(error), 3)
    except (PretextError, PrivacyError) as error:
        code = print_error(str(error), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
