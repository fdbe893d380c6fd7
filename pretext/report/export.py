"""Copies a run's synthetic texts into other formats, streamed from the run folder.

csv is for people with a spreadsheet, which runs a cell that begins like a formula. The texts come from a language model
that may write anything, so such a cell gets an apostrophe before it (OWASP, CSV injection), and the number of changed
cells is returned. jsonl, parquet and datasets carry every text as it is.
"""

from __future__ import annotations

import csv
import io
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pretext.errors import UsageError
from pretext.files import Row, json_line, open_atomically, replace_folder, write_parquet
from pretext.report.card import CARD, render_card
from pretext.run.folder import check_outside_run
from pretext.run.shards import synthetic_rows

_ANNOUNCEMENT = "Writing the texts"
_DATASET_FILE = re.compile(r"data-\d{5}-of-\d{5}\.arrow|dataset_info\.json|state\.json|README\.md")
_FORMULAS = frozenset("=+-@＝＋－＠﹦﹢﹣﹫−")
_INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")


def export_file(folder: Path, out: Path, *, force: bool = False) -> int:
    """Write the synthetic texts of a run folder to a csv, jsonl or parquet file, which appears when it is whole.

    Returns:
        number of changed cells; above 0 only in csv.

    Raises:
        UsageError: another ending, or the file exists and `force` is not set, or it lies in the run folder or cannot
            be written.
        RunFolderError: this is no run folder, or there are no texts in it yet.
    """
    check_outside_run(out, folder)
    kind = out.suffix.lower()
    if kind not in (".csv", ".jsonl", ".parquet"):
        raise UsageError(f"{out} must end in .csv, .jsonl or .parquet, which says the format.")
    if out.is_dir() or (out.exists() and not force):
        raise UsageError(f"{out} exists already; give another name, or --force to overwrite a file.")
    rows = synthetic_rows(folder, _ANNOUNCEMENT)
    with _report_write_errors(out), open_atomically(out) as file:
        match kind:
            case ".csv":
                return _write_csv(rows, file)
            case ".jsonl":
                file.writelines(map(json_line, rows))
            case _:
                write_parquet(rows, file)
    return 0


def export_dataset(folder: Path, out: Path, *, force: bool = False) -> None:
    """Write the synthetic texts as a Hugging Face dataset for `datasets.load_from_disk(out)`, with its card.

    Raises:
        UsageError: `out` exists and `force` is not set, or it is no such dataset, or it cannot be written.
        RunFolderError: as `export_file`.
    """
    check_outside_run(out, folder)
    card = render_card(folder, "data-*.arrow", 'datasets.load_from_disk("FOLDER")')
    if out.exists() and not force:
        raise UsageError(f"{out} exists already; give another name, or --force to replace a dataset.")
    if out.exists() and not (out / "dataset_info.json").exists():
        raise UsageError(f"{out} is no dataset, so it is not replaced even with --force; give another name.")
    if strangers := _find_strangers(out):
        raise UsageError(
            f"{out} also holds {strangers[0]}, which belongs to no dataset; it would be lost, so the dataset is not "
            "replaced. Move it away, or give another name."
        )
    with _report_write_errors(out), replace_folder(out) as fresh:
        with tempfile.TemporaryDirectory(dir=fresh.parent) as cache:
            _write_dataset(folder, fresh, Path(cache))
        (fresh / CARD).write_text(card, encoding="utf-8")


def _find_strangers(dataset: Path) -> list[str]:
    """List the files in a dataset's folder that no dataset has."""
    names = sorted(path.name for path in dataset.iterdir()) if dataset.exists() else []
    return [name for name in names if not _DATASET_FILE.fullmatch(name)]


def _write_dataset(folder: Path, out: Path, cache: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    arguments = {"folder": folder, "announce": _ANNOUNCEMENT}
    try:
        datasets.Dataset.from_generator(synthetic_rows, gen_kwargs=arguments, cache_dir=str(cache)).save_to_disk(out)
    except datasets.exceptions.DatasetGenerationError as error:
        raise (error.__cause__ or error) from None  # what the rows themselves raised


def _write_csv(rows: Iterable[Row], file: IO[bytes]) -> int:
    """Write the rows, and return how many cells were changed."""
    changed = 0
    text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
    writer = csv.writer(text)
    for number, row in enumerate(rows):
        if number == 0:
            writer.writerow(row)
        risky = [_is_formula(cell) for cell in row.values()]
        changed += sum(risky)
        writer.writerow([f"'{cell}" if bad else cell for cell, bad in zip(row.values(), risky, strict=True)])
    text.detach()  # flushes; the caller closes the file
    return changed


def _is_formula(cell: str) -> bool:
    """Whether a spreadsheet may run a cell: its first visible character begins a formula, or it begins with a tab or a
    line end, at which some programs split."""
    visible = (character for character in cell if unicodedata.category(character) not in _INVISIBLE)
    return cell.startswith(("\t", "\r", "\n")) or next(visible, "") in _FORMULAS


@contextmanager
def _report_write_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or type(error).__name__}.") from None
