"""The commands of the main job: init, plan, run, resume, expand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pretext.cli.options import (
    accept_option,
    config_argument,
    confirm_option,
    folder_argument,
    json_option,
    resumable,
    set_option,
    setting_options,
)
from pretext.cli.output import print_result
from pretext.cli.reopening import reopen_run
from pretext.config.flags import RUN_FLAGS, nest_flags
from pretext.formatting import quote_path

if TYPE_CHECKING:
    from pretext.config.settings import Config, Privacy
    from pretext.jobs.forecast import Forecast
    from pretext.jobs.plan import Plan
    from privacy import Unit


@click.command(short_help="Write a configuration file with comments.")
@click.argument("file", type=click.Path(path_type=Path), default="pretext.toml")
@click.option("--preset", default="default", show_default=True, help="Starting point: default, profile or icml2024.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def init(file: Path, preset: str, force: bool) -> None:
    """Write a configuration file in which a comment explains every setting.

    FILE is pretext.toml by default.
    """
    from pretext.config.presets import PRESETS
    from pretext.config.template import render_template
    from pretext.errors import UsageError
    from pretext.files import write_atomically

    if preset not in PRESETS:
        raise UsageError(f"There is no preset {preset!r}; the presets are {' and '.join(PRESETS)}.")
    if file.exists() and not force:
        raise UsageError(f"{file} already exists; give another name, or --force to overwrite it.")
    try:
        write_atomically(file, render_template(preset, PRESETS[preset]))
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from None
    print_result(f"Wrote {file}. Set data.path and the initial population, then: pretext plan {quote_path(file)}")


@click.command(short_help="Show what a run will spend and cost.")
@config_argument
@setting_options(RUN_FLAGS)
@set_option
@click.option(
    "--measure", is_flag=True, help="Open the models, measure a sample of the work, forecast time and memory."
)
@json_option
def plan(config: Path | None, measure: bool, as_json: bool, overrides: tuple[str, ...], **flags: Any) -> None:
    """Show what a configuration will spend and cost. Nothing private is read.

    A flag overrides the file CONFIG, and the file its preset.
    """
    from pretext.config.resolve import resolve
    from pretext.jobs.adapting import check_adaptation
    from pretext.jobs.plan import make_plan

    resolved = resolve(config, overrides, settings=nest_flags(flags))
    check_adaptation(resolved)
    planned, forecast = make_plan(resolved), None
    if measure:
        from pretext.jobs.forecast import make_forecast
        from pretext.jobs.parts import Parts

        forecast = make_forecast(resolved, Parts.of(resolved))
    if as_json:
        print_result(_plan_to_json(planned, forecast))
    else:
        print_result(
            _format_run_plan(planned, forecast, resolved.privacy, resolved.unit, bool(resolved.initial.public_sets))
        )


@click.command(short_help="Write synthetic texts from private ones.")
@config_argument
@setting_options(RUN_FLAGS)
@set_option
@click.option("--out", type=click.Path(path_type=Path), default="run", show_default=True, help="Run folder.")
@confirm_option
def run(config: Path | None, out: Path, confirm_new_name: bool, overrides: tuple[str, ...], **flags: Any) -> None:
    """Write synthetic texts from private ones: evolve a population by private votes, then expand it.

    A flag overrides the file CONFIG, and the file its preset.
    """
    from pretext.config.resolve import resolve

    _synthesize(resolve(config, overrides, settings=nest_flags(flags)), out, confirm_new_name)


@click.command(short_help="Continue an interrupted run.")
@folder_argument
@set_option
@confirm_option
@accept_option
def resume(folder: Path, overrides: tuple[str, ...], confirm_new_name: bool, accept_changes: bool) -> None:
    """Continue an interrupted run. Past releases are replayed, never drawn again.

    Only speed settings may change.
    """
    _, config = reopen_run(folder, overrides)
    _synthesize(config, folder, confirm_new_name, accept_changes)


@click.command(short_help="Write more texts from a run, at no privacy cost.")
@folder_argument
@click.option(
    "--texts", type=click.IntRange(min=1), required=True, help="Synthetic texts in all, those already written included."
)
@set_option
@accept_option
def expand(folder: Path, texts: int, overrides: tuple[str, ...], accept_changes: bool) -> None:
    """Write more synthetic texts from a run's seeds. This costs no privacy."""
    from pretext.jobs.parts import Parts
    from pretext.jobs.run import expand_run

    run, config = reopen_run(folder, overrides)
    with resumable(f"pretext expand {quote_path(folder)} --texts {texts}"):
        print_result(expand_run(config, run, Parts.of(config), texts, accept_changes=accept_changes))


def _synthesize(config: Config, folder: Path, confirmed: bool, accept_changes: bool = False) -> None:
    from pretext.jobs.parts import Parts
    from pretext.jobs.run import synthesize
    from pretext.run.shards import Shards
    from pretext.statement.statement import describe_statement

    with resumable(f"pretext resume {quote_path(folder)}"):
        run = synthesize(config, folder, Parts.of(config), confirmed=confirmed, accept_changes=accept_changes)
        print_result(describe_statement(run.require_statement()))
        print_result(f"Texts        {Shards.of(config.expansion, run).target}")


def _plan_to_json(plan: Plan, forecast: Forecast | None) -> str:
    from dataclasses import asdict

    from pretext.files import replace_nonfinite

    document = asdict(plan) | ({} if forecast is None else {"forecast": asdict(forecast)})
    return json.dumps(replace_nonfinite(document), indent=1)


def _format_signal(plan: Plan, privacy: Privacy) -> list[str]:
    if plan.texts_noise is not None:
        clients = "not known (state privacy.clients)" if privacy.clients is None else f"{privacy.clients:,}"
        return [
            f"Noise of the profile {plan.texts_noise:,.0f} texts in their number (standard deviation)",
            f"Clients              {clients}, with {privacy.max_texts_per_client} texts at most",
        ]
    votes = (
        "not known (state privacy.clients)"
        if plan.votes_per_candidate is None
        else f"{plan.votes_per_candidate:.2f} at most"
    )
    return [
        f"Noise per candidate  {plan.sigma:.2f} votes (standard deviation)",
        f"Votes per candidate  {votes}, on average",
    ]


def _format_run_plan(plan: Plan, forecast: Forecast | None, privacy: Privacy, unit: Unit, ranks_sets: bool) -> str:
    from privacy.rounding import round_up

    terms = f"delta {privacy.delta:g}, unit {unit.name}, relation {privacy.relation.value}"
    ranking = " and the ranking of public sets" if ranks_sets else ""
    lines = [
        f"Epsilon              {round_up(plan.epsilon)} for all {privacy.rounds} rounds{ranking}, "
        f"{round_up(plan.epsilon_per_round)} for one ({terms})",
        f"                     {round_up(plan.epsilon_rdp)} by Renyi accounting, for comparison with papers",
        f"Noise multiplier     {plan.noise_multiplier:.5f}",
        *_format_signal(plan, privacy),
        f"Tokens to generate   {plan.tokens:,} at most",
        *(f"Warning: {warning}" for warning in plan.warnings),
    ]
    return "\n".join(lines if forecast is None else [*lines, forecast.describe()])
