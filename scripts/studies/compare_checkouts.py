"""Compare two checkouts: does the demonstration's job give the same texts and the same epsilon in both?

    python scripts/studies/compare_checkouts.py BEFORE AFTER [--small] [--keep FOLDER]

Each checkout runs the commands of its own scripts/demo, in a process and a home folder of its own, on one thread.
Settings whose defaults follow from a measurement of speed are fixed. Draws that have no seed become functions of their
input: OpenDP's noise one of the sum that it is added to, the choice among a client's texts one of how many there were.
Any randomness that is left shows as a difference.

Exit codes: 0 everything is the same, 1 something differs or is missing, 2 a run failed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import runpy
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

# What depends on the layout. Where several are given, the first one that a checkout has counts.
DEMO: Final = "scripts/demo"
DATA_COMMAND, JOB_COMMAND = "python scripts/", "pretext run "  # how its lines begin
FIXED_SETTINGS: Final = ("speed.device=cpu", "speed.dtype=float32", "speed.embed_runtime=torch")
SMALL_DATA: Final = ("--modules", "300")
PARTS: Final = ("pretext.jobs.parts:Parts", "pretext.pipeline:Parts")
SCRIPTED_ENGINE: Final = ("pretext.models.engines.scripted:ScriptedEngine", "pretext.engines.scripted:ScriptedEngine")
HASH_EMBEDDER: Final = ("pretext.audit.canary_texts:HashEmbedder", "pretext.audit.invented:HashEmbedder")
COMPARED: Final[dict[str, list[tuple[str, ...]]]] = {  # files in the demonstration's folder, then keys in their JSON
    "private data": [("docstrings.jsonl",)],
    "public data": [("descriptions.jsonl",)],
    "populations": [("run/population/*.json", "candidates")],
    "origins": [("run/population/*.json", "origins")],
    "noisy votes": [("run/selected/*.json", "noisy")],
    "survivors": [("run/selected/*.json", "survivors")],
    "parents": [("run/selected/*.json", "parents")],
    "seeds": [("run/seeds.jsonl",)],
    "synthetic texts": [("run/synthetic.jsonl",)],
    "noise of releases": [("run/privacy.json", "releases", "noise_standard_deviation")],
    "cost of releases": [("run/privacy.json", "releases", "mu_squared")],
    "epsilon": [("run/privacy.json", "guarantee", "epsilon")],
    "delta": [("run/privacy.json", "guarantee", "delta")],
}

WORKER: Final = "--worker"
ENVIRONMENT: Final = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def main() -> None:
    """Run both checkouts, print the table, and exit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="checkout of the state before the change")
    parser.add_argument("after", type=Path, help="checkout of the state after it")
    parser.add_argument("--small", action="store_true", help="less data, a scripted generator, a hashing embedder")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="new folder in which both runs are kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = (arguments.keep or Path(scratch)).resolve()
        try:
            for name in ("before", "after"):
                run_demo(getattr(arguments, name).resolve(), work / name, arguments.small)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            print(error, file=sys.stderr)
            sys.exit(2)
        sys.exit(0 if print_comparison(work / "before", work / "after") else 1)


def run_demo(checkout: Path, folder: Path, small: bool) -> None:
    """Run the two commands of a checkout's demonstration; `folder` is new and takes what they write."""
    folder.mkdir(parents=True)
    script = (checkout / DEMO).read_text(encoding="utf-8").replace("\\\n", " ").replace("$folder", str(folder))
    data = [*find_command(script, DATA_COMMAND), *(SMALL_DATA if small else ())]
    job = [*find_command(script, JOB_COMMAND), *(word for setting in FIXED_SETTINGS for word in ("--set", setting))]
    # -P: sys.path begins with the checkout, not with the folder of this script.
    worker = ["-P", str(Path(__file__).resolve()), WORKER, str(checkout), "small" if small else "full"]
    own = {"PYTHONPATH": str(checkout), "PRETEXT_HOME": str(folder / "home")}
    environment = {**os.environ, **ENVIRONMENT, **own}
    for command in (data, [*worker, *job]):
        subprocess.run([sys.executable, *command], cwd=checkout, env=environment, stdout=sys.stderr, check=True)


def find_command(script: str, start: str) -> list[str]:
    """Return the words behind the program's name in the one line that begins with `start`; ValueError without it."""
    lines = [line for line in script.splitlines() if line.startswith(start)]
    if len(lines) != 1:
        raise ValueError(f"{len(lines)} lines of {DEMO} begin with {start!r}; adapt the table in {__file__}.")
    return shlex.split(lines[0])[1:]


def print_comparison(before: Path, after: Path) -> bool:
    """Print a line for everything that is compared; return whether all of it is there and the same."""
    print(f"{'compared':<18}{'rows':>8}  {'before':<20}{'after':<20}verdict")
    verdicts = []
    for name, places in COMPARED.items():
        old, new = read_rows(before, places), read_rows(after, places)
        verdicts.append(bool(old) and old == new)
        print(f"{name:<18}{len(old):>8}  {show(old):<20}{show(new):<20}{'same' if verdicts[-1] else 'DIFFERS'}")
    return all(verdicts)


def read_rows(folder: Path, places: Sequence[Sequence[str]]) -> list[str]:
    """Return a value as rows of JSON, whose numbers keep all their digits; none where no place holds it."""
    for files, *keys in places:
        with suppress(KeyError):
            values = [pick(json.loads(text), keys) for path in sorted(folder.glob(files)) for text in documents(path)]
            if rows := [json.dumps(row) for value in values for row in (value if isinstance(value, list) else [value])]:
                return rows
    return []


def documents(path: Path) -> list[str]:
    """Return the JSON documents in a file: each of its lines (.jsonl), or the whole of it."""
    content = path.read_text(encoding="utf-8")
    return content.rstrip("\n").split("\n") if path.suffix == ".jsonl" else [content]


def pick(document: Any, keys: Sequence[str]) -> Any:
    """Follow the keys into a document, and into every member of a list on the way."""
    if keys and isinstance(document, list):
        return [pick(member, keys) for member in document]
    return pick(document[keys[0]], keys[1:]) if keys else document


def show(rows: Sequence[str]) -> str:
    """Return a short value itself, and a digest of any other."""
    if len(rows) == 1 and len(rows[0]) < 20:
        return rows[0]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16] if rows else "missing"


def run_worker(checkout: Path, size: str, arguments: Sequence[str]) -> None:
    """Run `pretext ARGUMENTS` in this process, on the checkout's own code; ends in SystemExit."""
    for package in ("pretext", "privacy"):
        origin = str(importlib.import_module(package).__file__)
        if not Path(origin).is_relative_to(checkout):
            sys.exit(f"The package {package} came from {origin}, which is not in {checkout}.")
    with ExitStack() as stack:
        stack.enter_context(patch("random.SystemRandom", FixedRandom))
        stack.enter_context(patch("opendp.prelude.m.make_gaussian", make_gaussian))
        if size == "small":
            parts, models = find(PARTS), (find(SCRIPTED_ENGINE)(shuffle_words), find(HASH_EMBEDDER)())
            stack.enter_context(patch.object(parts, "of", partial(parts.of, models=models)))
        stack.enter_context(patch("sys.argv", ["pretext", *arguments]))
        runpy.run_module("pretext", run_name="__main__")


class FixedRandom(random.Random):
    """Stands in for `random.SystemRandom`: a draw from a range depends on that range, not on the draws before it."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """Return a fixed member of the range."""
        return random.Random(repr((start, stop, step))).randrange(start, stop, step)


def make_gaussian(domain: Any, metric: Any, scale: float) -> Callable[[list[int]], list[int]]:
    """Stand in for OpenDP's constructor: noise of the same scale, seeded with the values that it is added to."""

    def measure(values: list[int]) -> list[int]:
        seed = hashlib.sha256(repr((values, scale)).encode()).digest()
        noise = np.random.default_rng(int.from_bytes(seed)).normal(0.0, scale, len(values))
        return [value + round(draw) for value, draw in zip(values, noise.tolist(), strict=True)]

    return measure


def shuffle_words(prompt: Any, rng: np.random.Generator) -> str:
    """Script the engine: the words of the prompt's last sample, shuffled, with one from any of them."""
    samples = [line.split() for line in prompt.text.splitlines() if line.strip() and "sample" not in line.casefold()]
    words = [*samples[-1], str(rng.choice([word for sample in samples for word in sample]))]
    return " ".join(rng.permutation(words).tolist())


def find(paths: Sequence[str]) -> Any:
    """Return the first `module:attribute` that exists."""
    for module, attribute in (path.split(":") for path in paths):
        with suppress(ModuleNotFoundError, AttributeError):
            return getattr(importlib.import_module(module), attribute)
    sys.exit(f"The checkout has none of {', '.join(paths)}; adapt the table in {__file__}.")


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        run_worker(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
    main()
