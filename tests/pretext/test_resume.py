"""Killed at any save point, a run goes on to the same releases, each drawn once."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pretext.config import Config
from pretext.pipeline import open_ledger, synthesize
from pretext.run import Run
from privacy import Ledger
from tests.pretext.conftest import make_parts


def _killed_at(count: int, work: Callable[[], object]) -> bool:
    """Do the work in a forked child that is killed (-9) right before or after its count-th save; was it killed?

    Save points are every fsync, every rename and every commit of the ledger; odd counts die before, even ones after.
    """
    child = os.fork()
    if child == 0:
        left = [count]

        def deadly(real: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **named: object) -> object:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = real(*arguments, **named)
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return call

        class Connection(sqlite3.Connection):
            commit = deadly(sqlite3.Connection.commit)  # type: ignore[assignment]

        real_connect = sqlite3.connect
        sqlite3.connect = lambda *args, **named: real_connect(*args, factory=Connection, **named)  # type: ignore[assignment]
        os.fsync = deadly(os.fsync)  # type: ignore[assignment]
        os.replace = deadly(os.replace)  # type: ignore[assignment]
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _releases() -> list[tuple[str, bytes]]:
    ledger = open_ledger()
    return [
        (release.label, release.noisy.tobytes()) for name in ledger.names() for release in ledger.account(name).releases
    ]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kill_at_every_save_point(
    make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("privacy.rounds=2", "expansion.texts=20")
    count = 0
    while True:
        count += 1
        folder = tmp_path / f"run-{count}"
        monkeypatch.setenv("PRETEXT_HOME", str(tmp_path / f"home-{count}"))
        killed = _killed_at(count, lambda folder=folder: synthesize(config, folder, make_parts(config)))  # type: ignore[misc]
        before = _releases()
        run = synthesize(config, folder, make_parts(config))
        after = _releases()
        assert after[: len(before)] == before, f"killed at save point {count}: a release was lost or drawn again"
        assert [label.split("/", 1)[1] for label, _ in after] == ["votes/0", "votes/1"]
        assert len((run.folder / "synthetic.jsonl").read_text().splitlines()) == 20
        assert not list(folder.glob("*.part"))
        if not killed:
            break
    assert count > 40, "the save points were not counted"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_twice(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config()
    for count in (17, 9, 23):
        _killed_at(count, lambda: synthesize(config, tmp_path / "run", make_parts(config)))
    synthesize(config, tmp_path / "run", make_parts(config))
    assert len(_releases()) == 3


def test_a_finished_run_resumes_without_private_file_models_or_cost(
    make_config: Callable[..., Config], tmp_path: Path, private_file: Path
) -> None:
    config = make_config()
    run = synthesize(config, tmp_path / "run", make_parts(config))
    before = {path: path.read_bytes() for path in run.folder.rglob("*.json*")}
    private_file.unlink()
    releases = _releases()

    class Untouchable:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"a finished run must not open its {name}")

    synthesize(config, tmp_path / "run", Untouchable())  # type: ignore[arg-type]
    assert _releases() == releases
    assert {path: path.read_bytes() for path in run.folder.rglob("*.json*")} == before


def test_interrupted_expansion_keeps_finished_chunks(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """Garbage behind the last counted chunk is cut off; chunks before it stay byte for byte."""
    config = make_config()
    whole = synthesize(config, tmp_path / "whole", make_parts(config))
    state = json.loads((whole.folder / "expansion.json").read_text())
    (whole.folder / "synthetic.jsonl").rename(whole.folder / "synthetic.jsonl.part")
    text = (whole.folder / "synthetic.jsonl.part").read_bytes()
    with (whole.folder / "synthetic.jsonl.part").open("ab") as file:
        file.write(b'{"text": "half a li')
    (whole.folder / "expansion.json").write_text(json.dumps({**state, "kept": 30}))
    run = synthesize(config, tmp_path / "whole", make_parts(config))
    assert (run.folder / "synthetic.jsonl").read_bytes() == text


def test_more_texts_from_a_finished_run_cost_nothing(make_config: Callable[..., Config], tmp_path: Path) -> None:
    from pretext.pipeline import expand_run

    config = make_config()
    run = synthesize(config, tmp_path / "run", make_parts(config))
    first = (run.folder / "synthetic.jsonl").read_text()
    releases = _releases()
    expand_run(config, run, make_parts(config), 45)
    more = (run.folder / "synthetic.jsonl").read_text()
    assert more.startswith(first)
    assert len(more.splitlines()) == 45
    assert _releases() == releases


def test_a_changed_population_is_not_taken_for_the_one_voted_on(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    from privacy import LedgerConflict

    config = make_config()
    run = synthesize(config, tmp_path / "run", make_parts(config))
    stored = json.loads((run.folder / "population" / "001.json").read_text())
    stored["candidates"][0][0] = "an edited candidate"
    (run.folder / "population" / "001.json").write_text(json.dumps(stored))
    with pytest.raises(LedgerConflict, match="another question"):
        synthesize(config, tmp_path / "run", make_parts(config))


def test_two_runs_share_the_budget_of_their_data_set(make_config: Callable[..., Config], tmp_path: Path) -> None:
    from privacy import BudgetExceeded

    config = make_config("privacy.epsilon=1", "privacy.budget_epsilon=1.2", "evolution.threshold=0")
    synthesize(config, tmp_path / "one", make_parts(config))
    with pytest.raises(BudgetExceeded, match=r"left is 0\.\d+"):
        synthesize(config, tmp_path / "two", make_parts(config))
    assert len(_releases()) == 3
    assert isinstance(open_ledger(), Ledger)
    assert Run.open(tmp_path / "two")[0].selected(0) is None
