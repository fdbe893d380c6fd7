"""The command `pretext audit`: a lower bound on epsilon from attacks, beside the claim."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pretext.cli.options import json_option, set_option
from pretext.cli.output import print_result
from pretext.cli.plots import chart_option, draw_bounds

if TYPE_CHECKING:
    from pretext.audit.origins import Origins
    from pretext.config.settings import Config
    from pretext.jobs.parts import ModelPair


@click.command(short_help="Attack the program, and bound epsilon from below.")
@click.argument("target", type=click.Path(path_type=Path), required=False)
@click.option(
    "--games",
    type=click.IntRange(min=256, max=10_000_000),
    default=8192,
    show_default=True,
    help="Games of each attack on the release path; more of them prove more.",
)
@click.option(
    "--runs",
    type=click.IntRange(min=0, max=100_000),
    default=40,
    show_default=True,
    help="Whole runs to attack: so many of an honest server, and so many of a hostile one; 0: none.",
)
@click.option("--models", is_flag=True, help="Run the configured generator and embedder: slow, so use few --runs.")
@chart_option
@json_option
@set_option
def audit(
    target: Path | None,
    games: int,
    runs: int,
    models: bool,
    chart: Path | None,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Attack the program at the guarantee of a configuration file or run folder, and print what the attacks prove.

    Only invented clients are attacked; the private file is not opened and nothing is charged. Of a run folder, the
    origin of every candidate is checked too. The exit code is 1 if an attack refutes the claim, or an origin is wrong.
    """
    from pretext.audit.run import run_audit
    from pretext.jobs.parts import Parts

    config, origins = _load_target(target, overrides)
    pair: ModelPair | None = None
    if models:
        parts = Parts.of(config)
        pair = parts.engine(), parts.embedder()
    result = run_audit(config, games=games, runs=runs, models=pair, origins=origins)
    print_result(result.to_json() if as_json else result.format_audit())
    if chart is not None:
        draw_bounds(result.findings, chart)
    if not result.is_passed:
        sys.exit(1)


def _load_target(target: Path | None, overrides: tuple[str, ...]) -> tuple[Config, Origins | None]:
    """Load the configuration to attack, and check the origins of a run folder's candidates."""
    from pretext.audit.origins import check_run_origins
    from pretext.audit.run import default_config
    from pretext.config.resolve import dump_settings, resolve
    from pretext.run.folder import Run

    if target is None:
        return resolve(overrides=overrides, defaults=dump_settings(default_config())), None
    if not target.is_dir():
        return resolve(target, overrides), None
    run, config = Run.open(target)
    return resolve(overrides=overrides, settings=dump_settings(config)), check_run_origins(config, run)
