"""The commands `pretext privacy`, for whoever answers for a guarantee."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pretext.cli.options import OrderedGroup, folder_argument, json_option, setting_options
from pretext.cli.output import print_note, print_result
from pretext.cli.plots import chart_option, draw_curve
from pretext.config.flags import CALIBRATION_FLAGS, nest_flags

if TYPE_CHECKING:
    from pretext.calibration import Calibration
    from pretext.config.settings import Config, Privacy
    from pretext.statement.accountants import AccountantBound, CurvePoint
    from privacy import Release, Unit

_optional_folder = click.argument("folder", type=click.Path(path_type=Path), required=False)


@click.group(cls=OrderedGroup, short_help="State, verify and compare guarantees.")
def privacy() -> None:
    """State, verify and compare the guarantees of runs and datasets."""


@privacy.command(short_help="Print a run's privacy statement, or a page to sign.")
@folder_argument
@json_option
@click.option("--out", type=click.Path(path_type=Path), help="Write one page to sign: .md or .txt; or .json.")
def statement(folder: Path, as_json: bool, out: Path | None) -> None:
    """Print a run's privacy statement, or write it as one page to sign."""
    from pretext.run.folder import Run
    from pretext.statement.signature_page import write_signature_page
    from pretext.statement.statement import describe_statement

    document = Run.open(folder)[0].require_statement()
    if out is not None:
        write_signature_page(document, folder, out)
        print_result(out)
    else:
        print_result(document.to_json() if as_json else describe_statement(document))


@privacy.command(short_help="Recompute a run's statement from the ledger.")
@folder_argument
@json_option
def verify(folder: Path, as_json: bool) -> None:
    """Recompute a run's statement from the ledger, and check the run folder, its seal and the ledger's chain.

    Any difference ends in exit code 1.
    """
    from dataclasses import asdict

    from pretext.formatting import format_count
    from pretext.home import read_ledger
    from pretext.statement.verify import verify_folder

    book = read_ledger()
    checks = verify_folder(folder, book)
    differences = [difference for check in checks for difference in check.differences]
    if as_json:
        print_result(json.dumps({"verified": not differences, "checks": [asdict(check) for check in checks]}, indent=1))
    elif differences:
        print_result("\n".join(map(str, differences)))
    else:
        print_result("\n".join(f"ok  {check.words}" for check in checks))
        print_result(f"Verified {folder} against {book.path}. What models wrote was compared with its digests.")
    if differences:
        print_note(f"{folder} is not verified: {format_count(len(differences), 'difference')}.")
        sys.exit(1)


@privacy.command(short_help="Show epsilon against delta for what was spent.")
@_optional_folder
@click.option("--dataset", "name", help="All releases ever made from this dataset, in place of one run's.")
@chart_option
@json_option
def curve(folder: Path | None, name: str | None, chart: Path | None, as_json: bool) -> None:
    """Show epsilon against delta for what was spent, under both relations.

    Of a dataset, or of a run that is not finished, this is a reading: what is guaranteed is the dataset's budget, and
    the epsilon of the run's statement.
    """
    from pretext.errors import UsageError
    from pretext.formatting import format_count
    from pretext.home import read_ledger
    from pretext.statement.accountants import DELTAS, epsilon_curve
    from pretext.statement.statement import count_rounds

    if (folder is None) == (name is None):
        raise UsageError("Give either a run folder or --dataset NAME.")
    releases: Sequence[Release]
    if folder is None:
        account = read_ledger().account(str(name))
        releases, delta, unit = account.releases, account.budget.delta, account.unit
    else:
        config, releases = _load_releases(folder)
        delta, unit = config.privacy.delta, config.unit
    is_reading = folder is None or 0 < count_rounds(releases) < config.privacy.rounds
    points = epsilon_curve(releases, sorted({*DELTAS, delta}, reverse=True))
    title = f"{folder or name} ({format_count(len(releases), 'release')}{', a reading' * is_reading}, unit {unit.name})"
    if chart is not None:
        draw_curve(points, chart, title)
    print_result(_curve_to_json(title, unit.name, points) if as_json else _format_curve(title, points))


def _format_curve(title: str, points: Sequence[CurvePoint]) -> str:
    from privacy.rounding import round_up

    head = [f"Epsilon of {title}, by relation", f"{'delta':<8}{'add/remove':>12}{'replace-one':>13}"]
    rows = [f"{p.delta:<8g}{round_up(p.add_remove):>12}{round_up(p.replace_one):>13}" for p in points]
    return "\n".join([*head, *rows])


def _curve_to_json(title: str, unit: str, points: Sequence[CurvePoint]) -> str:
    from pretext.files import replace_nonfinite

    rows = [{"delta": p.delta, "add/remove": p.add_remove, "replace-one": p.replace_one} for p in points]
    return json.dumps(replace_nonfinite({"of": title, "unit": unit, "curve": rows}), indent=1)


@privacy.command(short_help="Compute the noise for a target, or the epsilon of a noise.")
@setting_options(CALIBRATION_FLAGS)
@json_option
def calibrate(as_json: bool, **flags: Any) -> None:
    """Compute the noise that a target epsilon needs, or the epsilon that a noise gives.

    The numbers are those of `pretext plan`. A flag that is not given has the default of a configuration file.
    """
    from pretext.calibration import Calibration
    from privacy import Relation, epsilon

    config = _make_hypothetical_config(flags)
    calibration, terms = Calibration.of(config), config.privacy
    losses = {
        relation.value: epsilon(calibration.rounds_cost(relation), terms.delta)
        for relation in sorted(Relation, key=lambda relation: relation is not terms.relation)
    }
    render = _calibration_to_json if as_json else _format_calibration
    print_result(render(calibration, losses))


def _calibration_to_json(calibration: Calibration, losses: Mapping[str, float]) -> str:
    from pretext.files import replace_nonfinite

    terms = calibration.privacy
    document = {
        "noise_multiplier": calibration.noise_multiplier,
        "sigma_votes": calibration.mechanism.standard_deviation,
        "epsilon": losses,
        "delta": terms.delta,
        "unit": "client",
        "rounds": terms.rounds,
        "relation": terms.relation.value,
        "max_texts_per_client": terms.max_texts_per_client,
    }
    return json.dumps(replace_nonfinite(document), indent=1)


def _format_calibration(calibration: Calibration, losses: Mapping[str, float]) -> str:
    from privacy.rounding import round_up

    terms, multiplier = calibration.privacy, calibration.noise_multiplier
    sigma = calibration.mechanism.standard_deviation
    norm = float(terms.norm_squared) ** 0.5
    return "\n".join(
        [
            f"Noise multiplier     {round_up(multiplier, 5)} in each of {terms.rounds} rounds, noise for "
            f"{terms.relation.value}",
            f"Noise per candidate  {sigma:.4g} votes (standard deviation; a client's votes have a norm of "
            f"{norm:.4g} at most)",
            *(
                f"Epsilon              {round_up(loss)} (delta {terms.delta:g}, unit client, relation {name})"
                for name, loss in losses.items()
            ),
        ]
    )


@privacy.command(short_help="Compare accountants on the same releases.")
@_optional_folder
@setting_options(CALIBRATION_FLAGS)
@json_option
def compare(folder: Path | None, as_json: bool, **flags: Any) -> None:
    """Show the same releases by several accountants: those of a run folder, or of a hypothetical setting."""
    from pretext.calibration import Calibration
    from pretext.errors import UsageError
    from pretext.statement.accountants import compare_accountants

    if folder is None:
        config = _make_hypothetical_config(flags)
        costs = [Calibration.of(config).round_cost()] * config.privacy.rounds
    elif any(value is not None for value in flags.values()):
        raise UsageError("Give either a run folder or a setting (--epsilon, --rounds, ...), not both.")
    else:
        config, releases = _load_releases(folder)
        costs = [release.cost(config.privacy.relation) for release in releases]
    bounds = compare_accountants(costs, config.privacy.delta)
    render = _comparison_to_json if as_json else _format_comparison
    print_result(render(config.privacy, config.unit, len(costs), bounds))


def _comparison_to_json(terms: Privacy, unit: Unit, releases: int, bounds: Sequence[AccountantBound]) -> str:
    from dataclasses import asdict

    from pretext.files import replace_nonfinite

    document = {
        "releases": releases,
        "delta": terms.delta,
        "unit": unit.name,
        "relation": terms.relation.value,
        "accountants": [asdict(bound) for bound in bounds],
    }
    return json.dumps(replace_nonfinite(document), indent=1)


def _format_comparison(terms: Privacy, unit: Unit, releases: int, bounds: Sequence[AccountantBound]) -> str:
    from pretext.formatting import format_count
    from privacy.rounding import round_up

    return "\n".join(
        [
            f"{format_count(releases, 'release')}, delta {terms.delta:g}, unit {unit.name}, relation "
            f"{terms.relation.value}",
            f"{'accountant':<17}{'epsilon':>9}",
            *(f"{bound.name:<17}{round_up(bound.epsilon):>9}  {bound.words}" for bound in bounds),
        ]
    )


def _load_releases(folder: Path) -> tuple[Config, list[Release]]:
    """Return the configuration of a run folder, and its releases."""
    from pretext.home import read_ledger
    from pretext.run.folder import Run
    from pretext.statement.accountants import find_account, find_releases

    run, config = Run.open(folder)
    return config, find_releases(run, find_account(run, read_ledger()))


def _make_hypothetical_config(flags: Mapping[str, Any]) -> Config:
    """Make a configuration that stands for a setting; what it would generate does not matter."""
    from pretext.config.resolve import resolve
    from pretext.errors import UsageError

    if (flags["epsilon"] is None) == (flags["noise_multiplier"] is None):
        raise UsageError("Give either --epsilon, a target, or --noise-multiplier, for example --epsilon 1.")
    settings = nest_flags(flags)
    return resolve(settings={**settings, "data": {"client_column": "client"}, "initial": {"prompts": ["any"]}})
