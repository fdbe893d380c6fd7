"""One process works in a run folder; a second one is refused and changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pretext.config.settings import Config
from pretext.errors import RunFolderError
from pretext.jobs.fred import run_fred
from pretext.jobs.run import evolve_run, expand_run, synthesize
from pretext.run.folder import LOCK_FILE, Run
from pretext.run.lock import lock_folder
from tests.support.runs import make_parts

HOLD = """
import sys
from pathlib import Path
from pretext.run.lock import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_lock__held_by_another_process__is_refused_with_its_number_until_it_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunFolderError) as caught, lock_folder(tmp_path / "run"):
            pass
        assert f"({holder.pid})" in str(caught.value)
        holder.kill()
    with lock_folder(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK_FILE).read_text() == str(os.getpid())
    assert not (tmp_path / "run" / LOCK_FILE).exists()


@pytest.mark.parametrize(
    "work",
    [
        lambda config, folder: synthesize(config, folder, make_parts(config)),
        lambda config, folder: evolve_run(config, folder, make_parts(config)),
        lambda config, folder: expand_run(config, Run.open(folder)[0], make_parts(config), 9),
        lambda config, folder: run_fred(config, folder, make_parts(config)),
    ],
    ids=["run", "evolve", "expand", "fred"],
)
def test_work__in_a_folder_that_is_held__changes_nothing(
    work: Callable[[Config, Path], object], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config, folder = make_config("privacy.rounds=1", "expansion.texts=4"), tmp_path / "run"
    run = synthesize(config, folder, make_parts(config))
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with lock_folder(folder), pytest.raises(RunFolderError, match=str(os.getpid())):
        work(config, folder)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_lock__of_a_folder_that_stays_empty__leaves_no_folder(tmp_path: Path) -> None:
    with lock_folder(tmp_path / "a" / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_lock__of_a_folder_with_leftovers__removes_them(tmp_path: Path) -> None:
    (tmp_path / "population").mkdir()
    (tmp_path / "population" / ".000.json-x1y2z3w4.tmp").touch()
    with lock_folder(tmp_path):
        assert list((tmp_path / "population").iterdir()) == []
