"""Run folders opened again, by the commands that continue a run or look at it with other speed settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pretext.config.settings import Config
    from pretext.run.folder import Run


def reopen_run(folder: Path, overrides: tuple[str, ...]) -> tuple[Run, Config]:
    """Return a run folder's run and its configuration, in which overrides may change speed settings only.

    Raises:
        RunFolderError: the folder holds no run, or a ranking.
        UsageError: an override changes a setting other than speed.
    """
    from pretext.config.resolve import compare_configs, dump_settings, resolve
    from pretext.errors import UsageError
    from pretext.run.folder import Run

    run, stored = Run.open(folder)
    run.require_texts()
    config = resolve(overrides=overrides, settings=dump_settings(stored))
    if changed := compare_configs(stored, config):
        raise UsageError(
            f"Only speed settings may change in an existing run, not {', '.join(changed)}; start a new run for that."
        )
    return run, config
