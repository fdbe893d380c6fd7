"""Execute the notebooks from top to bottom; an error in a cell fails.

    scripts/notebooks [--write] [NAME ...]

With --write the outputs are saved in the files, as they are committed; an output that names a folder of this machine is
refused. Every notebook works in a temporary folder, with an empty ledger of its own. Two run at a time, with half of
the cores each: much of a notebook runs on one core.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from pretext.home import model_cache_folder

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
LONGEST_CELL = 600  # seconds
AT_ONCE = 2


def main() -> None:
    """Execute the named notebooks, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="save the outputs in the files")
    parser.add_argument("names", nargs="*", help="notebooks by name; default: all")
    arguments = parser.parse_args()
    names = arguments.names or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    model_cache_folder().mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for name, seconds in zip(names, pool.map(partial(run, write=arguments.write), names), strict=True):
            print(f"{name}: {seconds:.0f} s", file=sys.stderr)


def run(name: str, write: bool) -> float:
    """Execute a notebook in an environment of its own; return the seconds that it took."""
    start, models = time.perf_counter(), model_cache_folder()
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "models").symlink_to(models)  # converting the packaged generator takes half a minute
        os.environ |= {"PRETEXT_HOME": home, "TMPDIR": home, "HF_HUB_OFFLINE": "1"}
        os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // AT_ONCE))
        # tqdm warns where the widgets of a browser are missing.
        os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
        execute(FOLDER / f"{name}.ipynb", write)
    return time.perf_counter() - start


def execute(path: Path, write: bool) -> None:
    """Execute a notebook. Raises CellExecutionError, or SystemExit if a saved output would name this machine."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=LONGEST_CELL,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": FOLDER}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    client.execute()
    notebook.metadata = NotebookNode(kernelspec=dict(notebook.metadata["kernelspec"]), language_info={"name": "python"})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
    if write:
        if lines := find_local_paths(notebook):
            raise SystemExit(f"{path.name}: an output names this machine: {lines[0]!r}")
        nbformat.write(notebook, path)


def find_local_paths(notebook: NotebookNode) -> list[str]:
    """Return the lines of outputs that hold a path of this machine. A generated text may look like one: write again."""
    outputs = [
        text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for text in [output.get("text", ""), *output.get("data", {}).get("text/plain", "").splitlines()]
    ]
    folders = [str(FOLDER.parent), str(Path.home()), tempfile.gettempdir(), sys.prefix]
    pattern = re.compile("|".join(rf"{re.escape(folder)}\b" for folder in folders))
    return [line for text in outputs for line in text.splitlines() if pattern.search(line)]


if __name__ == "__main__":
    main()
