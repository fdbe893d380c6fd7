"""The command `pretext audit`: a lower bound on epsilon from attacks, beside the claim."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from pretext.cli.options import chart_option, json_option, set_option


@click.command()
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
    help="Whole runs that are attacked, so many honest ones and so many of a hostile server; 0: none.",
)
@click.option("--models", is_flag=True, help="Runs with the configured generator and embedder: slow, so few --runs.")
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

    Only invented clients are attacked; the private file is not opened and nothing is charged. Of a run folder the
    origin of every candidate is checked too. Exit code 1 if an attack refutes the claim, or an origin is wrong.
    """
    from pretext.audit.run import run_audit as attack

    config, origins = _load_target(target, overrides)
    found = attack(config, games=games, runs=runs, models=_open_audit_models(config) if models else None)
    if chart is not None:
        from pretext.cli.plots import draw_bounds

        draw_bounds(found.findings, chart)
    if as_json:
        click.echo(json.dumps(found.as_json() | ({} if origins is None else {"origins": origins}), indent=1))
    else:
        click.echo(found.format_audit())
        if origins is not None:
            click.echo("\n" + "\n".join([f"Origins of the run's candidates: {origins['checked']}", *origins["wrong"]]))
    if found.is_refuted or (origins is not None and origins["wrong"]):
        sys.exit(1)


def _load_target(target: Path | None, overrides: tuple[str, ...]) -> tuple[Any, dict[str, Any] | None]:
    """The configuration to attack and, of a run folder, what was found of its candidates' origins."""
    from pretext.audit.run import default_config
    from pretext.config.resolve import dump_settings, resolve
    from pretext.run.folder import Run

    if target is not None and target.is_dir():
        run, stored = Run.open(target)
        return resolve(overrides=overrides, settings=dump_settings(stored)), _check_origins(run, stored)
    if target is not None:
        return resolve(target, overrides), None
    return resolve(overrides=overrides, defaults=dump_settings(default_config())), None


def _check_origins(run: Any, config: Any) -> dict[str, Any]:
    from pretext.formatting import format_count
    from pretext.statement.provenance import check_provenance

    subjects, source = _load_subjects(run, config)
    wrong = [str(difference) for difference in check_provenance(config, run, subjects)]
    said = f"wrong, {format_count(len(wrong), 'time')}" if wrong else "as they should be"
    return {"checked": f"{said} (digests from {source})", "wrong": wrong}


def _load_subjects(run: Any, config: Any) -> tuple[dict[str, str], str]:
    """The digests that the run's releases are bound to: from the ledger, or where there is none, the statement."""
    from pretext.home import open_ledger, user_folder
    from pretext.jobs.accounts import dataset_name
    from privacy import LedgerError

    try:
        if (user_folder() / "ledger.sqlite").exists():
            ledger = open_ledger()
            releases = ledger.account(dataset_name(config.data, config.privacy.dataset, ledger)).releases
            return {release.label: release.subject for release in releases}, "the ledger"
    except LedgerError:
        pass
    stated = (run.load("privacy.json") or {}).get("releases", [])
    return {release["label"]: release["subject_sha256"] for release in stated}, "privacy.json, no ledger knows the run"


def _open_audit_models(config: Any) -> Any:
    from pretext.jobs.parts import Parts

    parts = Parts.of(config)
    return parts.engine(), parts.embedder()
