"""The command `pretext student`: make the small student of `pretext evaluate`, once, from public texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pretext.cli.output import print_result

if TYPE_CHECKING:
    from pretext.evaluation.pretraining import Pretraining


@click.command(short_help="Make the student that `evaluate` trains; once, from public texts.")
@click.argument("files", nargs=-1, required=True)
@click.option("--text-column", default="text", show_default=True, help="Column with the text in all files.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the student goes; default: the model cache.")
@click.option("--tokens", type=click.IntRange(min=1), help="Tokens to learn from; default: 2.4 million.")
def student(files: tuple[str, ...], text_column: str, folder: Path | None, tokens: int | None) -> None:
    """Make the student `tiny` from PUBLIC texts. Takes about ten minutes, once.

    FILES are csv, json, jsonl or parquet, each also .gz, or Hugging Face dataset ids. Never give private texts: the
    student would know them in every later measurement.
    """
    from pretext.evaluation.pretraining import pretrain_tiny
    from pretext.evaluation.student import tiny_folder
    from pretext.evaluation.tiny import PRETRAINING

    place = folder or tiny_folder()
    print_result(_format(pretrain_tiny(files, place, text_column=text_column, tokens=tokens or PRETRAINING.tokens)))
    print_result(f"Wrote {place}")


def _format(pretraining: Pretraining) -> str:
    lines = [
        f"{pretraining.texts:,} texts, {pretraining.parameters:,} parameters, vocabulary {pretraining.vocabulary:,}, "
        f"{pretraining.seconds:.0f} s"
    ]
    for location, score in pretraining.scores.items():
        lines.append(
            f"{Path(location).name}, held out: top-1 {score.top1:.4f}, {score.cross_entropy:.4f} nats/token, "
            f"{score.bits_per_byte:.4f} bits/byte"
        )
    return "\n".join(lines)
