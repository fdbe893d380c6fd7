"""Killed at any save point, a run goes on to the same releases, each drawn once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pretext.clients.federation import LocalFederation
from pretext.config.resolve import dump_settings
from pretext.config.settings import Config
from pretext.errors import RunFolderError
from pretext.home import open_ledger
from pretext.jobs.parts import Parts
from pretext.jobs.run import synthesize
from pretext.lazy import Once
from pretext.run.folder import Run
from privacy import Ledger
from tests.support.runs import make_parts


def _killed(config: Config, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    command = [
        sys.executable,
        "-m",
        "tests.support.killing",
        str(folder),
        json.dumps(dump_settings(config)),
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _releases() -> list[tuple[str, bytes]]:
    ledger = open_ledger()
    return [
        (release.label, release.noisy.tobytes()) for name in ledger.names() for release in ledger.account(name).releases
    ]


@pytest.mark.slow
def test_kill_at_every_save_point(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """-9 before and after every save and at every step of a release; also several times in one run."""
    config = make_config("privacy.rounds=2", "expansion.texts=20")
    results = _killed(config, tmp_path / "killed")
    assert len(results) > 60, "the save points were not counted"
    for result in results:
        assert result["releases_kept"], f"a release was lost or drawn again: {result}"
        assert result["labels"] == ["votes/0", "votes/1"]
        assert result["texts"] == 20
        assert result["leftovers"] == []
        assert result["statement"] == 2


def test_a_finished_run_resumes_without_private_file_models_or_cost(
    make_config: Callable[..., Config], tmp_path: Path, private_file: Path
) -> None:
    config = make_config()
    run = synthesize(config, tmp_path / "run", make_parts(config))
    before = _results(run.folder)
    private_file.unlink()
    releases = _releases()

    def untouchable() -> Any:
        raise AssertionError("a finished run must not open a model or the clients")

    synthesize(config, tmp_path / "run", Parts(*[Once(untouchable)] * 3, LocalFederation(untouchable)))
    assert _releases() == releases
    assert _results(run.folder) == before


def test_interrupted_expansion_keeps_finished_chunks(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """Garbage behind the last counted chunk is cut off; chunks before it stay byte for byte."""
    config = make_config()
    run = synthesize(config, tmp_path / "whole", make_parts(config))
    final, part = run.folder / "synthetic.jsonl", run.folder / "synthetic.00000.part"
    text = final.read_bytes()
    open_ledger().open_again("private", run.id)  # as an expansion does before it writes
    shutil.copy(final, part)
    with part.open("ab") as file:
        file.write(b'{"text": "half a li')
    synthesize(config, tmp_path / "whole", make_parts(config))
    assert final.read_bytes() == text
    assert not part.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ([], ["synthetic.jsonl"]),
        (["expansion.format=parquet"], ["synthetic.parquet"]),
        (["expansion.shard_texts=6"], ["synthetic", "00000.jsonl", "00001.jsonl", "00002.jsonl"]),
        (
            ["expansion.shard_texts=9", "expansion.format=parquet"],
            ["synthetic", "00000.parquet", "00001.parquet"],
        ),
    ],
    ids=["file", "parquet", "shards", "parquet-shards"],
)
def test_an_expansion_killed_anywhere_gives_the_texts_of_one_that_was_not(
    settings: list[str], files: list[str], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """Written and then grown; a kill loses the chunk in progress, whose texts come again."""
    config = make_config("privacy.rounds=2", "expansion.texts=10", *settings)
    results = _killed(config, tmp_path / "killed", "10", "18")
    assert len(results) > 25, "the save points were not counted"
    whole = results[-2]
    assert not whole["killed"]
    assert len(whole["rows"]) == 18
    for result in results:
        assert result["rows"] == whole["rows"], f"killed at {result['counts']}"
        assert result["files"] == files


def test_more_texts_from_a_finished_run_cost_nothing(make_config: Callable[..., Config], tmp_path: Path) -> None:
    from pretext.jobs.run import expand_run

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
    with pytest.raises(RunFolderError, match=r"population/001\.json"):
        synthesize(config, tmp_path / "run", make_parts(config))
    with pytest.raises(LedgerConflict, match="another question"):
        synthesize(config, tmp_path / "run", make_parts(config), accept_changes=True)


def test_two_runs_share_the_budget_of_their_dataset(make_config: Callable[..., Config], tmp_path: Path) -> None:
    from privacy import BudgetExceeded

    config = make_config("privacy.epsilon=1", "privacy.budget_epsilon=1.2", "evolution.threshold=0")
    synthesize(config, tmp_path / "one", make_parts(config))
    with pytest.raises(BudgetExceeded, match=r"left is 0\.\d+"):
        synthesize(config, tmp_path / "two", make_parts(config))
    assert len(_releases()) == 3
    assert isinstance(open_ledger(), Ledger)
    assert Run.open(tmp_path / "two")[0].selection(0) is None


def _results(folder: Path) -> dict[Path, bytes]:
    """Every file but the timings, to which a look at a finished run adds too."""
    return {path: path.read_bytes() for path in folder.rglob("*.json*") if path.name != "timings.json"}
