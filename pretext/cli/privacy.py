"""The commands `pretext privacy`: for whoever answers for a guarantee."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from pretext.cli.options import chart_option, drop_unset, json_option

_folder = click.argument("folder", type=click.Path(path_type=Path))


@click.group()
def privacy() -> None:
    """State, judge and verify what a run, or a dataset, gave away."""


@privacy.command()
@_folder
@json_option
@click.option("--out", type=click.Path(path_type=Path), help="One page to sign, .md or .txt; or .json.")
def statement(folder: Path, as_json: bool, out: Path | None) -> None:
    """Print a run's privacy statement, or write it as one page to sign."""
    from pretext.errors import RunFolderError
    from pretext.files import replace_nonfinite
    from pretext.run.folder import Run
    from pretext.statement.signature_page import write_signature_page
    from pretext.statement.statement import describe_statement

    stated = Run.open(folder)[0].load("privacy.json")
    try:
        if out is not None:
            write_signature_page(stated, folder, out)
        click.echo(out or (json.dumps(replace_nonfinite(stated), indent=1) if as_json else describe_statement(stated)))
    except (KeyError, TypeError, IndexError):
        raise RunFolderError(
            f"{folder} holds no whole privacy.json of this version; `pretext resume {folder}`, or the same `pretext "
            "fred` again, writes it at no cost."
        ) from None


@privacy.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--dataset", "name", help="All that was ever released from a dataset, in place of one run.")
@chart_option
@json_option
def curve(folder: Path | None, name: str | None, chart: Path | None, as_json: bool) -> None:
    """Show epsilon against delta for what was spent, under both relations."""
    from pretext.errors import UsageError
    from pretext.formatting import format_count
    from pretext.home import open_ledger
    from pretext.statement.accountants import DELTAS
    from pretext.statement.accountants import epsilon_curve as make_curve

    if (folder is None) == (name is None):
        raise UsageError("Give either a run folder or --dataset NAME.")
    if folder is None:
        account = open_ledger().account(str(name))
        releases, delta, unit = list(account.releases), account.budget.delta, account.unit
    else:
        config, releases = _load_releases(folder)
        delta, unit = config.privacy.delta, config.unit
    points = make_curve(releases, sorted({*DELTAS, delta}, reverse=True))
    title = f"{folder or name} ({format_count(len(releases), 'release')}, unit {unit.name})"
    if chart is not None:
        from pretext.cli.plots import draw_curve

        draw_curve(points, chart, title)
    click.echo(_curve_to_json(title, unit.name, points) if as_json else _format_curve(title, points))


def _format_curve(title: str, points: Any) -> str:
    from privacy.rounding import round_up

    head = [f"Epsilon of {title}, by relation", f"{'delta':<8}{'add/remove':>12}{'replace-one':>13}"]
    rows = [f"{p.delta:<8g}{round_up(p.add_remove):>12}{round_up(p.replace_one):>13}" for p in points]
    return "\n".join([*head, *rows])


def _curve_to_json(title: str, unit: str, points: Any) -> str:
    from pretext.files import replace_nonfinite

    told = [{"delta": p.delta, "add/remove": p.add_remove, "replace-one": p.replace_one} for p in points]
    return json.dumps(replace_nonfinite({"of": title, "unit": unit, "curve": told}), indent=1)


def _setting_options(command: Any) -> Any:
    for option in (
        click.option("--epsilon", type=float, help="Target for all rounds together."),
        click.option("--noise-multiplier", type=float, help="Noise of a round / sensitivity, in place of a target."),
        click.option("--delta", type=float, help="delta; default: as in a run's configuration."),
        click.option("--rounds", type=int, help="Releases; default: as in a run's configuration."),
        click.option("--max-texts-per-client", type=int, help="Texts a client votes with at most."),
        click.option("--relation", help="add/remove or replace-one."),
    ):
        command = option(command)
    return command


@privacy.command()
@_setting_options
@json_option
def calibrate(as_json: bool, **setting: Any) -> None:
    """The noise that a target needs, or the epsilon that a noise gives; as `pretext plan` says for a run."""
    from pretext.calibration import Calibration
    from pretext.files import replace_nonfinite
    from pretext.jobs.plan import make_plan
    from privacy import Relation, epsilon

    config = _make_hypothetical_config(setting)
    planned, terms = make_plan(config), config.privacy
    losses = {
        relation.value: epsilon(Calibration.of(config).rounds_cost(relation), terms.delta)
        for relation in (terms.relation, *(other for other in Relation if other is not terms.relation))
    }
    if not as_json:
        click.echo(_format_calibration(planned, terms, losses))
        return
    told = {
        "noise_multiplier": planned.noise_multiplier,
        "sigma_votes": planned.sigma,
        "epsilon": losses,
        "delta": terms.delta,
        "unit": "client",
        "rounds": terms.rounds,
        "relation": terms.relation.value,
        "max_texts_per_client": terms.max_texts_per_client,
    }
    click.echo(json.dumps(replace_nonfinite(told), indent=1))


def _format_calibration(planned: Any, terms: Any, losses: dict[str, float]) -> str:
    from privacy.rounding import round_up

    norm = float(terms.norm_squared) ** 0.5
    return "\n".join(
        [
            f"Noise multiplier     {round_up(planned.noise_multiplier, 5)} in each of {terms.rounds} rounds, noise for "
            f"{terms.relation.value}",
            f"Noise per candidate  {planned.sigma:.4g} votes (standard deviation; a client's votes have a norm of "
            f"{norm:.4g} at most)",
            *(
                f"Epsilon              {round_up(loss)} (delta {terms.delta:g}, unit client, relation {name})"
                for name, loss in losses.items()
            ),
        ]
    )


@privacy.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@_setting_options
@json_option
def compare(folder: Path | None, as_json: bool, **setting: Any) -> None:
    """The same releases by several accountants: of a run folder, or of a setting that is only thought of."""
    from dataclasses import asdict

    from pretext.calibration import Calibration
    from pretext.errors import UsageError
    from pretext.files import replace_nonfinite
    from pretext.formatting import format_count
    from pretext.statement.accountants import compare_accountants as make_comparison
    from privacy.rounding import round_up

    if folder is None:
        config = _make_hypothetical_config(setting)
        costs = [Calibration.of(config).round_cost()] * config.privacy.rounds
    elif any(value is not None for value in setting.values()):
        raise UsageError("Give either a run folder or a setting (--epsilon, --rounds, ...), not both.")
    else:
        config, releases = _load_releases(folder)
        costs = [release.cost(config.privacy.relation) for release in releases]
    bounds, terms = make_comparison(costs, config.privacy.delta), config.privacy
    if as_json:
        told = {
            "releases": len(costs),
            "delta": terms.delta,
            "unit": config.unit.name,
            "relation": terms.relation.value,
            "accountants": [asdict(bound) for bound in bounds],
        }
        click.echo(json.dumps(replace_nonfinite(told), indent=1))
        return
    head = format_count(len(costs), "release")
    click.echo(f"{head}, delta {terms.delta:g}, unit {config.unit.name}, relation {terms.relation.value}")
    click.echo(f"{'accountant':<17}{'epsilon':>9}")
    for bound in bounds:
        click.echo(f"{bound.name:<17}{round_up(bound.epsilon):>9}  {bound.words}")


@privacy.command()
@_folder
@json_option
def verify(folder: Path, as_json: bool) -> None:
    """Recompute a run's statement from the ledger, and check folder, seal and chain. Exit code 1 on any difference."""
    from dataclasses import asdict

    from pretext.formatting import format_count
    from pretext.home import open_ledger
    from pretext.statement.verify import verify_folder as make_checks

    book = open_ledger()
    checks = make_checks(folder, book)
    differences = [difference for check in checks for difference in check.differences]
    if as_json:
        click.echo(json.dumps({"verified": not differences, "checks": [asdict(check) for check in checks]}, indent=1))
    elif differences:
        click.echo("\n".join(map(str, differences)))
    else:
        click.echo("\n".join(f"ok  {check.words}" for check in checks))
        click.echo(f"Verified {folder} against {book.path}. What models wrote was compared with its digests.")
    if differences:
        click.echo(f"{folder} is not verified: {format_count(len(differences), 'difference')}.", err=True)
        sys.exit(1)


def _load_releases(folder: Path) -> Any:
    """The configuration of a run folder, and its releases."""
    from pretext.home import open_ledger
    from pretext.run.folder import Run
    from pretext.statement.accountants import find_account, find_releases

    run, config = Run.open(folder)
    return config, find_releases(run, find_account(run, config, open_ledger()))


def _make_hypothetical_config(setting: dict[str, Any]) -> Any:
    """A configuration that stands for a setting; what it would generate does not matter."""
    from pretext.config.resolve import resolve
    from pretext.errors import UsageError

    terms = drop_unset(setting)
    if ("epsilon" in terms) == ("noise_multiplier" in terms):
        raise UsageError("Give either --epsilon, a target, or --noise-multiplier, for example --epsilon 1.")
    return resolve(
        settings={
            "data": {"client_column": "client"},
            "privacy": terms,
            "initial": {"prompts": ["any"]},
        }
    )
