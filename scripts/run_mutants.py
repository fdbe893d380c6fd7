"""Apply each mutant of `tests/mutants.py` to a copy of the program, and run the tests that must notice it.

    scripts/mutants [--verbose] [NAME ...]

First the same tests run on an unchanged copy, where all must pass. It fails if a mutant survives one of its tests, or
does not apply any more. Two mutants run at a time, each in a copy and in a process of its own; the processes are forked
from one that has loaded the libraries, so that a mutant costs seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.mutants import Mutant

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("privacy", "pretext", "tests", "scripts", "pyproject.toml", "PRIVACY.md", "README.md", "docs")
AT_ONCE = 2
LONGEST_TEST = 120  # seconds
LIBRARIES = [
    "click",
    "dp_accounting.pld.privacy_loss_mechanism",
    "dp_accounting.rdp",
    "faiss",
    "opendp.prelude",
    "pyarrow.parquet",
    "pydantic",
    "scipy.stats",
    "tomlkit",
    "torch",
]


@dataclass(frozen=True)
class Outcome:
    """How the tests went.

    Attributes:
        noticed: of the named tests, those that failed.
        missed: those that passed, or were not found.
        seconds: how long it took.
        output: what pytest printed.
    """

    noticed: list[str]
    missed: list[str]
    seconds: float
    output: str


def main() -> None:
    """Run the named mutants, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verbose", action="store_true", help="print what pytest prints")
    parser.add_argument("names", nargs="*", help="mutants by name; default: all")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.mutants import MUTANTS

    chosen = [mutant for mutant in MUTANTS if mutant.name in arguments.names or not arguments.names]
    if not chosen or len(chosen) < len(arguments.names):
        sys.exit(f"No such mutant; there are {', '.join(mutant.name for mutant in MUTANTS)}.")
    with tempfile.TemporaryDirectory(prefix="pretext-mutants-") as folder, _make_pool() as pool:
        sound = [] if arguments.names else _check_sound_program(pool, Path(folder), chosen)
        survivors = _run_mutants(pool, Path(folder), chosen, arguments.verbose)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants are noticed.")
    if sound or survivors:
        sys.exit(1)


def _make_pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    return ProcessPoolExecutor(AT_ONCE, mp_context=context, max_tasks_per_child=1)


def _check_sound_program(pool: ProcessPoolExecutor, folder: Path, mutants: Sequence[Mutant]) -> list[str]:
    """Run all named tests on an unchanged copy; print and return those that fail."""
    tests = sorted({test for mutant in mutants for test in mutant.killers})
    copy = _copy_program(folder / "sound")
    outcomes = list(pool.map(_run_tests, [copy] * AT_ONCE, [tests[start::AT_ONCE] for start in range(AT_ONCE)]))
    failed = [test for outcome in outcomes for test in outcome.noticed]
    for test in failed:
        print(f"Without any change this fails: {test}")
    print(f"{len(tests)} tests on the unchanged program took {max(outcome.seconds for outcome in outcomes):.0f} s.")
    return failed


def _run_mutants(pool: ProcessPoolExecutor, folder: Path, mutants: Sequence[Mutant], verbose: bool) -> list[str]:
    """Run each mutant's tests on a copy with its change; print a table and return the names of the survivors."""
    survivors, running = [], []
    for number, mutant in enumerate(mutants):
        copy = _copy_program(folder / str(number))
        try:
            mutant.write(copy)
        except ValueError as error:
            print(f"{mutant.name}: {error}")
            survivors.append(mutant.name)
        else:
            running.append((mutant, pool.submit(_run_tests, copy, mutant.killers)))
    for mutant, future in running:
        outcome = future.result()
        verdict = "SURVIVES" if outcome.missed else "noticed"
        print(
            f"{verdict:<9} {outcome.seconds:>4.0f} s  {mutant.kind:<13} {mutant.name:<36} {mutant.effect}", flush=True
        )
        if outcome.missed:
            survivors.append(mutant.name)
            print("".join(f"          not noticed by {test}\n" for test in outcome.missed), end="")
        if verbose:
            print(outcome.output)
    return survivors


def _copy_program(folder: Path) -> Path:
    """Copy what the tests need."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".mypy_cache"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


class _Tally:
    """A plugin of pytest that keeps which tests failed and which passed."""

    def __init__(self) -> None:
        self.failed: set[str] = set()
        self.passed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep one more report. A fixture that fails, fails its test."""
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed.add(report.nodeid)


def _run_tests(copy: Path, tests: Sequence[str]) -> Outcome:
    """Run tests in a copy of the program, in this process, which serves nothing else."""
    os.chdir(copy)
    sys.path[:0] = [str(copy), str(copy / "scripts")]
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "CI": "true", "OMP_NUM_THREADS": "1"}
    tally, output, started = _Tally(), io.StringIO(), time.perf_counter()
    options = ["-q", "--timeout", str(LONGEST_TEST), "-p", "no:cacheprovider", "-p", "no:xdist"]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        pytest.main([*options, *tests], plugins=[tally])
    import pretext
    import privacy

    assert all(Path(str(module.__file__)).is_relative_to(copy) for module in (pretext, privacy))
    # A parametrized test stands for all of its cases: one that fails notices the change.
    noticed = [test for test in tests if any(_belongs(case, test) for case in tally.failed)]
    missed = [test for test in tests if test not in noticed]
    return Outcome(noticed, missed, time.perf_counter() - started, output.getvalue())


def _belongs(case: str, test: str) -> bool:
    return case == test or case.startswith((f"{test}[", f"{test}::"))


if __name__ == "__main__":
    main()
