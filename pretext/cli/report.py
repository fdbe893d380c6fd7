"""The commands report and export. They read a run folder and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from pretext.cli.options import folder_argument
from pretext.cli.output import print_note, print_result


@click.command(short_help="Write one HTML page about a run.")
@folder_argument
@click.option("--out", type=click.Path(path_type=Path), default="report.html", show_default=True, help="HTML file.")
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path),
    help="Show what `pretext evaluate` wrote too, marked as not covered by the guarantee.",
)
def report(folder: Path, out: Path, evaluation: Path | None) -> None:
    """Write one HTML file with the guarantee, the budget, each round's votes and the texts.

    It works on unfinished runs too.
    """
    from pretext.home import ledger_path, open_ledger
    from pretext.report.page import write_report
    from pretext.run.folder import Run
    from pretext.statement.seals import check_seal

    if ledger_path().exists():
        check_seal(Run.open(folder)[0], open_ledger())
    write_report(folder, out, evaluation)
    print_result(out)


@click.command(short_help="Copy a run's texts into one file or dataset.")
@folder_argument
@click.option("--to", "file", type=click.Path(path_type=Path), help="A .csv, .jsonl or .parquet file.")
@click.option("--to-dataset", "dataset", type=click.Path(path_type=Path), help="A Hugging Face dataset on disk.")
@click.option("--force", is_flag=True, help="Overwrite an existing file or dataset.")
def export(folder: Path, file: Path | None, dataset: Path | None, force: bool) -> None:
    """Copy a run's synthetic texts into one file, or into a dataset with its card.

    In csv, a cell that a spreadsheet would run as a formula gets an apostrophe before it. The other formats keep every
    text unchanged.
    """
    from pretext.errors import UsageError
    from pretext.report.export import export_dataset, export_file

    if (file is None) == (dataset is None):
        raise UsageError("Give either --to FILE (.csv, .jsonl or .parquet) or --to-dataset FOLDER.")
    if dataset is not None:
        export_dataset(folder, dataset, force=force)
    elif file is not None and (changed := export_file(folder, file, force=force)):
        print_note(f"{changed} cells that begin like a formula got an apostrophe before them.")
    print_result(file or dataset)
