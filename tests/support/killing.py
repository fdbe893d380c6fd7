"""Kills a run, or an expansion alone, at every save point, in a process of its own.

Models and faiss are imported here but never used: a process that used OpenMP must not fork. Every piece of work is done
by a forked child. Prints one JSON line per save point.

    python -m tests.support.killing FOLDER SETTINGS-AS-JSON [TEXTS ...]

With numbers of texts, a run is finished once and then expanded to each of the numbers in turn, killed on the way.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import dp_accounting.pld
import dp_accounting.rdp  # noqa: F401
import faiss  # noqa: F401
import jinja2  # noqa: F401
import opendp.prelude  # noqa: F401
import pyarrow.parquet  # noqa: F401
import torch  # noqa: F401
from huggingface_hub import DatasetCardData  # noqa: F401

from pretext.config.resolve import resolve
from pretext.config.settings import Config
from pretext.home import open_ledger
from pretext.jobs.run import evolve_run, expand_run, synthesize
from pretext.run.folder import Run
from pretext.run.shards import synthetic_rows
from pretext.statement.verify import verify_folder
from tests.support.runs import make_parts


def killed_at(count: int, work: Callable[[], object]) -> bool:
    """Do the work in a child that is killed (-9) at its count-th chance; 0 means never. Was it killed?

    Chances are right before and right after every fsync, every rename, truncation and removal of a file, every draw and
    every commit of the ledger.
    """
    child = os.fork()
    if child == 0:
        try:
            _arm(count)
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("the work itself failed")
    return os.WIFSIGNALED(status)


def _arm(count: int) -> None:
    left = [count]

    def chance() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            chance()
            result = real(*arguments, **named)
            chance()
            return result

        return call

    class Connection(sqlite3.Connection):
        def commit(self) -> None:
            chance()
            super().commit()
            chance()

    from privacy import DiscreteGaussian

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **named: connect(*args, **named, factory=Connection)  # type: ignore[assignment]
    DiscreteGaussian.draw = deadly(DiscreteGaussian.draw)  # type: ignore[assignment,method-assign]
    for name in ("fsync", "replace", "truncate", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))


def releases() -> list[tuple[str, str]]:
    ledger = open_ledger()
    accounts = [ledger.account(name) for name in ledger.names()]
    return [(release.label, release.noisy.tobytes().hex()) for account in accounts for release in account.releases]


def check_verified(folder: Path) -> None:
    """Raises AssertionError unless nothing differs between folder, statement, seal and ledger."""
    differences = [str(each) for check in verify_folder(folder, open_ledger()) for each in check.differences]
    assert not differences, differences


def one(config: Config, folder: Path, counts: list[int]) -> dict[str, object]:
    """Kill at each of the counts in turn, then let it finish."""
    os.environ["PRETEXT_HOME"] = str(folder / "home")
    seen: list[list[tuple[str, str]]] = []
    killed = False
    for count in [*counts, 0]:
        killed = killed_at(count, lambda: synthesize(config, folder / "run", make_parts(config))) or killed
        seen.append(releases())
    killed_at(0, lambda: check_verified(folder / "run"))
    run, _ = Run.open(folder / "run")
    return {
        "counts": counts,
        "killed": killed,
        "releases_kept": all(later[: len(earlier)] == earlier for earlier, later in pairwise(seen)),
        "labels": [label.split("/", 1)[1] for label, _ in seen[-1]],
        "texts": len(list(synthetic_rows(run.folder))),
        "leftovers": sorted(path.name for path in folder.rglob("*.part")),
        "statement": json.loads((run.folder / "privacy.json").read_text())["rounds"]["released"],
    }


def expansion(config: Config, seeds: Path, folder: Path, counts: list[int], goals: list[int]) -> dict[str, object]:
    """Expand a copy of the evolution in `seeds` to each goal, killed at each of the counts, then let it finish.

    Each copy has its own ledger: the seals of one are not those of another.
    """
    shutil.copytree(seeds, folder)
    os.environ["PRETEXT_HOME"] = str(folder / "home")
    run, _ = Run.open(folder / "run")

    def work() -> None:
        for goal in goals:
            expand_run(config, run, make_parts(config), goal)

    killed = [killed_at(count, work) for count in [*counts, 0]]
    return {
        "counts": counts,
        "killed": any(killed),
        "rows": list(synthetic_rows(run.folder)),
        "files": sorted(str(path.relative_to(run.folder)) for path in run.folder.rglob("*synthetic*"))
        + sorted(path.name for path in run.folder.glob("synthetic/*")),
    }


def main() -> None:
    folder, settings, goals = Path(sys.argv[1]), json.loads(sys.argv[2]), [int(goal) for goal in sys.argv[3:]]
    config = resolve(settings=settings)
    work = partial(one, config)
    if goals:
        seeds = folder / "seeds"
        os.environ["PRETEXT_HOME"] = str(seeds / "home")
        killed_at(0, lambda: evolve_run(config, seeds / "run", make_parts(config)))
        work = partial(expansion, config, seeds, goals=goals)
    for number in range(1, 10_000):
        result = work(folder / str(number), [number])
        sys.stdout.write(json.dumps(result) + "\n")
        if not result["killed"]:
            break
    sys.stdout.write(json.dumps(work(folder / "often", [19, 7, 23, 11])) + "\n")


if __name__ == "__main__":
    main()
