"""The command `pretext split`: private texts into parts to train, validate and test on, by client."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Split private texts by client, to train and to test on.")
@click.argument("file")
@click.option(
    "--folder", type=click.Path(path_type=Path), required=True, help="Folder for the parts; keep it out of Git."
)
@click.option("--client-column", default="client_id", show_default=True, help="Column that tells clients apart.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    default=["text"],
    help="Column to keep beside the clients'; may be repeated; default: only text.",
)
def split(file: str, folder: Path, client_column: str, columns: tuple[str, ...]) -> None:
    """Split a file of private texts by client: 80 % to train on, 10 % to validate on, 10 % to test on.

    The folder receives train.jsonl, validation.jsonl and test.jsonl, readable by you alone. A client is always in the
    same part, also when the file grows and in other files. The parts are as private as FILE. Records without a client
    are left out.
    """
    from pretext.evaluation.split import split_file
    from pretext.tables import Source

    split_file(Source(file), client_column, columns, folder)
