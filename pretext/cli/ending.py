"""How a command ends: an exit code for every outcome, and a sentence where it is not 0.

Whatever is not one of our errors is a fault of the program. Its message and its values may hold private text, so only
its class and its places in the code are printed: enough for a report, and nothing of anybody.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import click

from pretext.cli.output import print_note

_MOST_PLACES = 12
_OUTPUT_FUNCTIONS = ("echo", "end_command")
"""Where writing to standard output fails: in click, or in the last flush below."""
_WORKS_ON_FILES = frozenset({"init", "run", "resume", "expand", "report", "export", "split", "student"})
"""Commands whose result is a file or a folder; what they print is a summary."""


def prepare_streams() -> None:
    """Make sure that all three standard streams are there and can take every character.

    A closed one would give its number to the next file that is opened, and what a library prints would go in there.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number; writing an answer to it fails, as it should
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def check_arguments(arguments: list[str]) -> None:
    """Refuse arguments that are not UTF-8: no file that we write could hold them. Raises UsageError."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            from pretext.errors import UsageError

            readable = os.fsencode(argument).decode(errors="backslashreplace")
            raise UsageError(
                f"The argument '{readable}' is not UTF-8; rename the file, or type it in a terminal that uses UTF-8 "
                "(LC_ALL=C.UTF-8)."
            ) from None


def end_command(command: Callable[[], int | None], name: str) -> int:
    """Run a command and return its exit code; every error ends in one sentence on standard error.

    Args:
        command: to call.
        name: of it, as on the command line.
    """
    try:
        code = command() or 0
        sys.stdout.flush()
    except BaseException as error:
        if isinstance(error, OSError) and traceback.extract_tb(error.__traceback__)[-1].name in _OUTPUT_FUNCTIONS:
            return _give_up_output(error, name)
        return _explain(error)
    return code


def _give_up_output(error: OSError, name: str) -> int:
    """Say why standard output cannot be written, unless its reader has left, and return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would try once more
    if isinstance(error, BrokenPipeError):
        return 1
    print_note(f"Standard output cannot be written ({error.strerror}), so the answer is lost.")
    return 0 if name in _WORKS_ON_FILES else 1


def _explain(error: BaseException) -> int:
    """Print a sentence about an error and return its exit code."""
    from pretext.errors import Interrupted, PretextError  # not above: `pretext --help` would pay for it

    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, click.ClickException):
        page = io.StringIO()
        error.show(page)
        print_note(page.getvalue().rstrip("\n"))
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        error = Interrupted("Interrupted.")
    if isinstance(error, PretextError):
        print_note(error)
        return error.exit_code
    print_note(_describe_system_error(error) if isinstance(error, OSError) else _describe_fault(error))
    return 1


def _describe_system_error(error: OSError) -> str:
    """Describe what the system refused, such as a name that is too long; a library's error that it did not is a
    fault."""
    if error.errno is None or error.strerror is None:
        return _describe_fault(error)
    place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "A file"
    return f"{place} cannot be read or written: {error.strerror}. Nothing done so far is lost."


def _describe_fault(error: BaseException) -> str:
    """Describe an error that is none of ours: its class and its places, without its message or any value."""
    if isinstance(error, MemoryError):
        return "There is not enough memory for this. Nothing done so far is lost; free some, then give it again."
    places = [
        f"  {_shorten(frame.filename)}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    return "\n".join(
        [
            f"This is a fault of the program ({type(error).__name__}), at",
            *places[-_MOST_PLACES:],
            f"Report these lines, with the command, to whoever maintains pretext {_version()}; they quote nothing of "
            "your data. Nothing done so far is lost.",
        ]
    )


def _shorten(file: str) -> str:
    """Cut the path of a module down to what follows the folder that packages lie in."""
    path = Path(file)
    places = (Path(place) for place in sorted(sys.path, key=len, reverse=True) if place)
    return next((str(path.relative_to(place)) for place in places if path.is_relative_to(place)), path.name)


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("pretext")
