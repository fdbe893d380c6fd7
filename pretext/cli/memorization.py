"""The command `pretext memorization`: how much the synthetic texts repeat of the private ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pretext.cli.options import json_option, resumable, set_option
from pretext.cli.output import print_result
from pretext.cli.reopening import reopen_run
from pretext.formatting import quote_path

if TYPE_CHECKING:
    from pretext.evaluation.memorization import MemorizationCheck


@click.command(short_help="Count synthetic texts that repeat private ones. NOT private.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--embedding/--no-embedding", default=True, help="Look for near duplicates too: embeds all texts.")
@click.option(
    "--control",
    type=click.IntRange(0, 1_000_000),
    default=0,
    help="Texts that the generator writes without private influence, to compare with; default: the initial population.",
)
@json_option
@set_option
def memorization(folder: Path, embedding: bool, control: int, as_json: bool, overrides: tuple[str, ...]) -> None:
    """Check, before a release, whether synthetic texts repeat private ones. NOT private; nothing is saved.

    Prints counts only. The exit code does not depend on them.
    """
    from pretext.evaluation.memorization import check_memorization
    from pretext.jobs.parts import Parts

    _, config = reopen_run(folder, overrides)
    parts = Parts.of(config)

    with resumable(f"pretext memorization {quote_path(folder)}"):
        embed, engine = parts.embedder() if embedding else None, parts.engine() if control else None
        check = check_memorization(folder, embed=embed, engine=engine, control=control)
        print_result(check.to_json() if as_json else _format_check(check))


def _format_check(check: MemorizationCheck) -> str:
    from pretext.evaluation.memorization import NOT_PRIVATE

    columns = {
        "private": check.private,
        "public": check.public,
        "candidates": check.candidates,
        "control/private": check.control,
    }
    levels = {name: {**overlap.levels(), "longest, in words": overlap.longest} for name, overlap in columns.items()}
    rows = [
        f"{level:<27}" + "".join(f"{counts[level]:>16,}" for counts in levels.values()) for level in levels["private"]
    ]
    verdict = "No excess over public texts and the control group in long runs and near duplicates."
    if check.alarms:
        verdict = (
            f"ALARM: more than public texts and the control group explain at {', '.join(check.alarms)}. Find the cause "
            "before you release anything: many clients hold one text, or the program has a defect."
        )
    return "\n".join(
        [
            NOT_PRIVATE,
            "",
            f"How many of {check.private.texts:,} synthetic texts share with private texts, with public texts, and "
            "with candidates of later rounds;",
            f"and how many of {check.control.texts:,} texts without any private influence (control) share with "
            "private texts:",
            "",
            f"{'':<27}" + "".join(f"{name:>16}" for name in levels),
            *rows,
            "",
            verdict,
        ]
    )
