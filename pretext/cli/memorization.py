"""The command `pretext memorization`: what of the private texts stands in the synthetic ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pretext.cli.options import json_option, reopen_run, run_interruptible, set_option

NOT_PRIVATE = (
    "NOT PRIVATE: this check compares with the private texts themselves, without noise. It is for whoever already "
    "holds them; do not release it, and do not choose texts by it."
)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--embedding/--no-embedding", default=True, help="Look for near duplicates too: embeds all texts.")
@click.option(
    "--control",
    type=click.IntRange(min=0),
    default=0,
    help="Texts that the generator writes without private influence, to compare with; default: the initial population.",
)
@json_option
@set_option
def memorization(folder: Path, embedding: bool, control: int, as_json: bool, overrides: tuple[str, ...]) -> None:
    """Check, before a release, whether synthetic texts repeat private ones. NOT private; nothing is saved.

    Tells counts only. The exit code does not depend on them.
    """
    from pretext.evaluation.memorization import check_memorization
    from pretext.jobs.parts import Parts

    run, config = reopen_run(folder, overrides)
    parts = Parts.of(config)

    def work() -> None:
        embed, engine = parts.embedder() if embedding else None, parts.engine() if control else None
        checked = check_memorization(config, run, embed=embed, engine=engine, control=control)
        click.echo(json.dumps(_check_to_json(checked), indent=1) if as_json else _format_check(checked))

    run_interruptible(f"pretext memorization {folder}", work)


def _check_to_json(result: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return {"not_private": NOT_PRIVATE, **asdict(result), "alarms": result.alarms}


def _format_check(result: Any) -> str:
    columns = {
        "private": result.private,
        "public": result.public,
        "candidates": result.candidates,
        "control/private": result.control,
    }
    levels = {name: {**each.levels(), "longest, in words": each.longest} for name, each in columns.items()}
    rows = [
        f"{level:<27}" + "".join(f"{counts[level]:>16,}" for counts in levels.values()) for level in levels["private"]
    ]
    found = (
        "ALARM: more than public texts and the control group explain at " + ", ".join(result.alarms) + ". Find the "
        "cause before you release anything: one text in many clients' hands, or a defect."
        if result.alarms
        else "No excess over public texts and the control group in long runs and near duplicates."
    )
    return "\n".join(
        [
            NOT_PRIVATE,
            "",
            f"Of {result.private.texts:,} synthetic texts, how many share with private texts, with public ones, with "
            "candidates of later rounds;",
            f"and how many of {result.control.texts:,} texts without any private influence (control) share with "
            "private texts:",
            "",
            f"{'':<27}" + "".join(f"{name:>16}" for name in levels),
            *rows,
            "",
            found,
        ]
    )
