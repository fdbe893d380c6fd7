"""Show progress on standard error: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def show_progress(name: str | None, total: int, *, show_counts: bool = True) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances the display by a number of steps.

    Args:
        name: the work in progress; None shows nothing.
        total: number of all steps.
        show_counts: False where the total is private: then the display shows neither numbers nor shares.
    """
    if name is None:
        yield lambda steps: None
    elif sys.stderr.isatty():
        with _show_bar(name, total if show_counts else None) as advance:
            yield advance
    else:
        with suppress(OSError):  # standard error is full, or its reader has left
            print(f"{name} ...", file=sys.stderr, flush=True)
        yield lambda steps: None


@contextmanager
def _show_bar(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    text = TextColumn("[progress.description]{task.description}")
    columns = (
        [text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        if total is not None
        else [SpinnerColumn(), text, TimeElapsedColumn()]
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(name, total=total)
        yield lambda steps: bar.update(task, advance=steps)
