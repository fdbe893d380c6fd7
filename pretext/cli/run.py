"""The commands of the main job: init, plan, run, resume, expand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pretext.cli.options import (
    config_argument,
    confirm_option,
    drop_unset,
    json_option,
    reopen_run,
    run_interruptible,
    set_option,
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default="pretext.toml")
@click.option("--preset", default="default", show_default=True, help="Starting point: default or icml2024.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def init(file: Path, preset: str, force: bool) -> None:
    """Write a commented configuration file."""
    from pretext.config.presets import PRESETS
    from pretext.config.template import render_template
    from pretext.errors import UsageError
    from pretext.files import write_atomically

    if preset not in PRESETS:
        raise UsageError(f"There is no preset {preset!r}; there are {' and '.join(PRESETS)}.")
    if file.exists() and not force:
        raise UsageError(f"{file} is there already; give another name, or --force to overwrite it.")
    try:
        write_atomically(file, render_template(preset, PRESETS[preset]))
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from None
    click.echo(f"Wrote {file}. Set data.path and the initial population, then: pretext plan {file}")


def _source_options(command: Any) -> Any:
    for option in (
        click.option("--private", help="Private file or Hugging Face dataset id (data.path)."),
        click.option("--text-column", help="Column with the text (data.text_column)."),
        click.option("--client-column", help="Column that tells clients apart (data.client_column)."),
        click.option("--label-column", help="Column with the label (data.label_column)."),
        click.option("--public", help="Public file or dataset for the initial population (initial.texts)."),
        click.option(
            "--prompt", "prompts", multiple=True, help="Public sentence that describes the domain (initial.prompts)."
        ),
        click.option("--epsilon", type=float, help="Privacy loss of the run (privacy.epsilon)."),
        click.option("--delta", type=float, help="delta of the run (privacy.delta)."),
        click.option("--relation", help="add/remove or replace-one (privacy.relation)."),
        click.option("--texts", type=int, help="Synthetic texts to write (expansion.texts)."),
        click.option("--preset", help="Starting point: default or icml2024."),
        set_option,
    ):
        command = option(command)
    return command


@click.command()
@config_argument
@_source_options
@click.option("--measure", is_flag=True, help="Open the models, do a sample of the work, and foretell time and memory.")
@json_option
def plan(config: Path | None, measure: bool, as_json: bool, **flags: Any) -> None:
    """Show what a configuration will spend and cost. Nothing private is touched."""
    from pretext.jobs.plan import make_plan as make_plan

    resolved = _resolve_run_flags(config, flags)
    planned = make_plan(resolved)
    foretold = _forecast_run(resolved) if measure else None
    if as_json:
        from dataclasses import asdict

        from pretext.files import replace_nonfinite

        told = asdict(planned) | ({} if foretold is None else {"forecast": asdict(foretold)})
        click.echo(json.dumps(replace_nonfinite(told), indent=1))
        return
    click.echo(_format_run_plan(resolved, planned))
    if foretold is not None:
        click.echo(foretold.in_words())


@click.command()
@config_argument
@_source_options
@click.option("--out", type=click.Path(path_type=Path), default="run", show_default=True, help="Run folder.")
@confirm_option
def run(config: Path | None, out: Path, confirm_new_name: bool, **flags: Any) -> None:
    """Run the main job: private texts in, synthetic texts out."""
    _synthesize_interruptibly(_resolve_run_flags(config, flags), out, confirm_new_name)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@set_option
@confirm_option
def resume(folder: Path, overrides: tuple[str, ...], confirm_new_name: bool) -> None:
    """Continue an interrupted run; what was released is replayed, never drawn again. Only speed settings may change."""
    _, config = reopen_run(folder, overrides)
    _synthesize_interruptibly(config, folder, confirm_new_name)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--texts", type=click.IntRange(min=1), required=True, help="Synthetic texts in all.")
@set_option
def expand(folder: Path, texts: int, overrides: tuple[str, ...]) -> None:
    """Write more synthetic texts from a run's seeds. Costs no privacy."""
    from pretext.jobs.parts import Parts
    from pretext.jobs.run import expand_run

    run, config = reopen_run(folder, overrides)
    again = f"pretext expand {folder} --texts {texts}"
    run_interruptible(again, lambda: click.echo(expand_run(config, run, Parts.of(config), texts)))


def _synthesize_interruptibly(config: Any, folder: Path, confirmed: bool) -> None:
    from pretext.jobs.parts import Parts
    from pretext.jobs.run import synthesize
    from pretext.run.shards import Shards
    from pretext.statement.statement import describe_statement

    def work() -> None:
        run = synthesize(config, folder, Parts.of(config), confirmed=confirmed)
        click.echo(describe_statement(run.load("privacy.json")))
        click.echo(f"Texts        {Shards.of(config.expansion, run).target}")

    run_interruptible(f"pretext resume {folder}", work)


def _resolve_run_flags(config: Path | None, flags: dict[str, Any]) -> Any:
    from pretext.config.resolve import resolve
    from pretext.tables import resolve_location

    overrides = flags.pop("overrides")
    paths = {key: source and resolve_location(source) for key in ("private", "public") for source in [flags.pop(key)]}
    tables = {
        "data": {
            "path": paths["private"],
            **{key: flags.pop(key) for key in ("text_column", "client_column", "label_column")},
        },
        "initial": {"texts": paths["public"], "prompts": list(flags.pop("prompts")) or None},
        "expansion": {"texts": flags.pop("texts")},
        "preset": flags.pop("preset"),
        "privacy": flags,
    }
    settings = {
        name: drop_unset(table) if isinstance(table, dict) else table for name, table in tables.items() if table
    }
    return resolve(config, overrides, settings=settings)


def _forecast_run(config: Any) -> Any:
    from pretext.jobs.forecast import make_forecast
    from pretext.jobs.parts import Parts

    return make_forecast(config, Parts.of(config))


def _format_run_plan(config: Any, planned: Any) -> str:
    from privacy.rounding import round_up

    privacy = config.privacy
    terms = f"delta {privacy.delta:g}, unit {config.unit.name}, relation {privacy.relation.value}"
    votes = (
        "not known (state privacy.clients)"
        if planned.votes_per_candidate is None
        else f"{planned.votes_per_candidate:.2f} at most"
    )
    finding = " and for finding the nearest candidates" if config.initial.public_sets else ""
    lines = [
        f"Epsilon              {round_up(planned.epsilon)} for all {privacy.rounds} rounds{finding}, "
        f"{round_up(planned.epsilon_per_round)} for one ({terms})",
        f"                     {round_up(planned.epsilon_rdp)} by Renyi accounting, for comparison with papers",
        f"Noise multiplier     {planned.noise_multiplier:.5f}",
        f"Noise per candidate  {planned.sigma:.2f} votes (standard deviation)",
        f"Votes per candidate  {votes}, on average",
        f"Tokens to generate   {planned.tokens:,} at most",
    ]
    return "\n".join([*lines, *(f"Warning: {warning}" for warning in planned.warnings)])
