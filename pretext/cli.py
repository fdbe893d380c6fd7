"""The command line: builds objects and calls one function. Results go to standard output, everything else to standard
error.

Exit codes: 0 done, 1 failure, 2 wrong use, 3 refused by the budget, 4 interrupted and resumable.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from pretext.cli_fred import fred

_config_argument = click.argument("config", type=click.Path(path_type=Path), required=False)
_set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Override a setting, for example privacy.epsilon=1.29.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pretext")
def cli() -> None:
    """Turn texts that must not leave their owners into synthetic texts with a differential-privacy guarantee."""


@cli.command()
@click.argument("file", type=click.Path(path_type=Path), default="pretext.toml")
@click.option("--preset", default="default", show_default=True, help="Starting point: default or icml2024.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def init(file: Path, preset: str, force: bool) -> None:
    """Write a commented configuration file."""
    from pretext.errors import UsageError
    from pretext.presets import PRESETS
    from pretext.template import commented

    if preset not in PRESETS:
        raise UsageError(f"There is no preset {preset!r}; there are {' and '.join(PRESETS)}.")
    if file.exists() and not force:
        raise UsageError(f"{file} is there already; give another name, or --force to overwrite it.")
    try:
        file.write_text(commented(preset, PRESETS[preset]), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from None
    click.echo(f"Wrote {file}. Set data.path and the initial population, then: pretext plan {file}")


def _source_options(command: Any) -> Any:
    for option in (
        click.option("--private", help="Private file or Hugging Face data set id (data.path)."),
        click.option("--text-column", help="Column with the text (data.text_column)."),
        click.option("--client-column", help="Column that tells clients apart (data.client_column)."),
        click.option("--label-column", help="Column with the label (data.label_column)."),
        click.option("--public", help="Public file or data set for the initial population (initial.texts)."),
        click.option(
            "--prompt", "prompts", multiple=True, help="Public sentence that describes the domain (initial.prompts)."
        ),
        click.option("--epsilon", type=float, help="Privacy loss of the run (privacy.epsilon)."),
        click.option("--delta", type=float, help="delta of the run (privacy.delta)."),
        click.option("--relation", help="add/remove or replace-one (privacy.relation)."),
        click.option("--texts", type=int, help="Synthetic texts to write (expansion.texts)."),
        click.option("--preset", help="Starting point: default or icml2024."),
        _set_option,
    ):
        command = option(command)
    return command


@cli.command()
@_config_argument
@_source_options
@click.option("--measure", is_flag=True, help="Open the models, do a sample of the work, and foretell time and memory.")
@_json_option
def plan(config: Path | None, measure: bool, as_json: bool, **flags: Any) -> None:
    """Show what a configuration will spend and cost. Nothing private is touched."""
    from pretext.plan import plan as make_plan

    resolved = _resolved(config, flags)
    planned = make_plan(resolved)
    foretold = _foretold(resolved) if measure else None
    if as_json:
        from dataclasses import asdict

        click.echo(json.dumps(asdict(planned) | ({} if foretold is None else {"forecast": asdict(foretold)}), indent=1))
        return
    click.echo(_plan_in_words(resolved, planned))
    if foretold is not None:
        click.echo(foretold.in_words())


@cli.command()
@_config_argument
@_source_options
@click.option("--out", type=click.Path(path_type=Path), default="run", show_default=True, help="Run folder.")
@click.option(
    "--confirm-new-name",
    is_flag=True,
    help="Charge a known file under a new data set name: other people's data lie there now.",
)
def run(config: Path | None, out: Path, confirm_new_name: bool, **flags: Any) -> None:
    """Run the main job: private texts in, synthetic texts out."""
    _work(_resolved(config, flags), out, confirm_new_name)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@_set_option
@click.option("--confirm-new-name", is_flag=True, help="As for run.")
def resume(folder: Path, overrides: tuple[str, ...], confirm_new_name: bool) -> None:
    """Continue an interrupted run; what was released is replayed, never drawn again. Only speed settings may change."""
    _, config = _reopened(folder, overrides)
    _work(config, folder, confirm_new_name)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--texts", type=click.IntRange(min=1), required=True, help="Synthetic texts in all.")
@_set_option
def expand(folder: Path, texts: int, overrides: tuple[str, ...]) -> None:
    """Write more synthetic texts from a run's seeds. Costs no privacy."""
    from pretext.pipeline import Parts, expand_run

    run, config = _reopened(folder, overrides)
    again = f"pretext expand {folder} --texts {texts}"
    _interruptible(again, lambda: click.echo(expand_run(config, run, Parts.of(config), texts)))


@cli.group(invoke_without_command=True)
@click.pass_context
def ledger(context: click.Context) -> None:
    """Show the data sets' budgets and histories, or set a budget."""
    if context.invoked_subcommand is None:
        from pretext.pipeline import open_ledger

        book = open_ledger()
        click.echo(f"Ledger {book.path}")
        for name in book.names():
            click.echo(_account_in_words(book.account(name)))


@ledger.command()
@click.argument("name")
@_json_option
def show(name: str, as_json: bool) -> None:
    """Show a data set's budget and every release ever charged to it."""
    from pretext.pipeline import open_ledger

    book = open_ledger()
    account = book.account(name)
    if as_json:
        click.echo(json.dumps(_account_as_json(account, book.path), indent=1))
        return
    click.echo(f"Ledger {book.path}\n{_account_in_words(account)}")
    for source in account.sources:
        click.echo(f"  source {source}")
    for release in account.releases:
        cost = release.cost(account.relation)
        click.echo(
            f"  {release.id:>4}  {release.time}  {release.label}  {release.mechanism.name}, {release.dimension} "
            "values, "
            f"noise {release.mechanism.standard_deviation:.4g}, mu {cost.mu_squared**0.5:.5f}, {release.code}"
        )


@ledger.command()
@click.argument("name")
@click.option("--epsilon", type=float, required=True, help="The most that may ever be spent.")
@click.option("--delta", type=float, help="delta of the budget; default: as before.")
def budget(name: str, epsilon: float, delta: float | None) -> None:
    """Set the budget of a known data set. A decision of whoever answers for the data; it stays in the history."""
    from pretext.pipeline import open_ledger
    from privacy import Budget

    book = open_ledger()
    before = book.account(name)
    click.echo(_account_in_words(book.set_budget(name, Budget(epsilon, delta or before.budget.delta))))


cli.add_command(fred)


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
        code = _told("Interrupted.", 4)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (UsageError, InvalidParameter, LedgerConflict) as error:
        code = _told(str(error), 2)
    except BudgetExceeded as error:
        code = _told(str(error), 3)
    except (PretextError, PrivacyError) as error:
        code = _told(str(error), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _work(config: Any, folder: Path, confirmed: bool) -> None:
    from pretext.pipeline import Parts, synthesize
    from pretext.shards import Shards
    from pretext.statement import in_words

    def work() -> None:
        run = synthesize(config, folder, Parts.of(config), confirmed=confirmed)
        click.echo(in_words(run.load("privacy.json")))
        click.echo(f"Texts        {Shards.of(config.expansion, run).target}")

    _interruptible(f"pretext resume {folder}", work)


def _interruptible(again: str, work: Any) -> None:
    try:
        work()
    except KeyboardInterrupt:
        sys.exit(_told(f"Interrupted; nothing done is lost. Continue with: {again}", 4))


def _told(sentence: str, code: int) -> int:
    click.echo(sentence, err=True)
    return code


def _reopened(folder: Path, overrides: tuple[str, ...]) -> Any:
    from pretext.config import differences, plain, resolve
    from pretext.errors import UsageError
    from pretext.run import Run

    run, stored = Run.open(folder)
    config = resolve(overrides=overrides, settings=plain(stored))
    if changed := differences(stored, config):
        raise UsageError(
            f"Only speed settings may change in an existing run, not {', '.join(changed)}; start a new run for that."
        )
    return run, config


def _resolved(config: Path | None, flags: dict[str, Any]) -> Any:
    from pretext.config import resolve
    from pretext.tables import located

    overrides = flags.pop("overrides")
    paths = {key: source and located(source) for key in ("private", "public") for source in [flags.pop(key)]}
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
    settings = {name: _given(table) if isinstance(table, dict) else table for name, table in tables.items() if table}
    return resolve(config, overrides, settings=settings)


def _given(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _foretold(config: Any) -> Any:
    from pretext.forecast import forecast
    from pretext.pipeline import Parts

    return forecast(config, Parts.of(config))


def _plan_in_words(config: Any, planned: Any) -> str:
    from privacy.account import round_up

    privacy = config.privacy
    terms = f"delta {privacy.delta:g}, unit {config.unit.name}, relation {privacy.relation.value}"
    votes = (
        "not known (state privacy.clients)"
        if planned.votes_per_candidate is None
        else f"{planned.votes_per_candidate:.2f} at most"
    )
    finding = " and for finding the nearest candidates" if config.initial.candidates else ""
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


def _account_in_words(account: Any) -> str:
    from privacy.account import round_down, round_up

    return (
        f"{account.name}: budget epsilon {account.budget.epsilon:g}, delta {account.budget.delta:g}, unit "
        f"{account.unit.name}, "
        f"relation {account.relation.value}; spent {round_up(account.spent_epsilon)} in {len(account.releases)} "
        "releases; "
        f"left for one more run: {round_down(account.left_epsilon)}"
    )


def _account_as_json(account: Any, path: Path) -> dict[str, Any]:
    return {
        "ledger": str(path),
        "data_set": account.name,
        "unit": account.unit.words,
        "relation": account.relation.value,
        "budget": {"epsilon": account.budget.epsilon, "delta": account.budget.delta},
        "spent_epsilon": account.spent_epsilon,
        "left_epsilon": account.left_epsilon,
        "sources": list(account.sources),
        "releases": [
            {
                "id": release.id,
                "label": release.label,
                "time": release.time,
                "sigma": release.mechanism.standard_deviation,
                "dimension": release.dimension,
            }
            for release in account.releases
        ],
    }
