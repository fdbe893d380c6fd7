"""What several commands share: options, interruption, and run folders opened again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

config_argument = click.argument("config", type=click.Path(path_type=Path), required=False)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Override a setting, for example privacy.epsilon=1.29.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
confirm_option = click.option(
    "--confirm-new-name",
    is_flag=True,
    help="Charge a known file under a new dataset name: other people's data lie there now.",
)
chart_option = click.option(
    "--chart",
    type=click.Path(path_type=Path),
    callback=lambda _, __, path: _check_drawable(path),
    help="Draw it: .svg or .png (extra `plot`).",
)


def _check_drawable(path: Path | None) -> Path | None:
    """Before the work, not after it."""
    if path is not None:
        from pretext.cli.plots import check_chart

        check_chart(path)
    return path


def run_interruptible(again: str, work: Callable[[], None]) -> None:
    """Do the work; when it is interrupted, name the command that goes on, and exit with 4."""
    try:
        work()
    except KeyboardInterrupt:
        sys.exit(print_error(f"Interrupted; nothing done is lost. Continue with: {again}", 4))


def print_error(sentence: str, code: int) -> int:
    """Print the sentence to standard error; gives the exit code back."""
    click.echo(sentence, err=True)
    return code


def reopen_run(folder: Path, overrides: tuple[str, ...]) -> Any:
    """A run folder's run and configuration; only speed settings may be overridden."""
    from pretext.config.resolve import compare_configs, dump_settings, resolve
    from pretext.errors import UsageError
    from pretext.run.folder import Run

    run, stored = Run.open(folder)
    config = resolve(overrides=overrides, settings=dump_settings(stored))
    if changed := compare_configs(stored, config):
        raise UsageError(
            f"Only speed settings may change in an existing run, not {', '.join(changed)}; start a new run for that."
        )
    return run, config


def drop_unset(table: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given, for a layer over those that were not."""
    return {key: value for key, value in table.items() if value is not None}
