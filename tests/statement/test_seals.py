"""A sealed folder that somebody changed is neither continued nor shown; an interrupted one is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pretext.evolution.expansion
from pretext.config.settings import Config
from pretext.errors import RunFolderError
from pretext.home import open_ledger
from pretext.jobs.run import expand_run, synthesize
from pretext.report.page import write_report
from pretext.run.folder import Run
from pretext.run.manifest import finish_seal, seal_run
from pretext.statement.seals import check_seal
from pretext.statement.verify import verify_folder
from tests.support.runs import make_parts

Make = Callable[..., Config]
SETTINGS = ("privacy.rounds=2", "expansion.texts=20", "expansion.shard_texts=8")


@pytest.fixture
def run(make_config: Make, tmp_path: Path) -> Run:
    return synthesize(make_config(*SETTINGS), tmp_path / "run", make_parts(make_config(*SETTINGS)))


def differences(run: Run) -> list[str]:
    return [str(difference) for check in verify_folder(run.folder, open_ledger()) for difference in check.differences]


def edit_text(path: Path) -> None:
    path.write_text(path.read_text().replace("text", "tex7", 1))


def plant_text(path: Path) -> None:
    with path.open("a") as file:
        file.write(json.dumps({"text": "a text that nobody generated"}) + "\n")
    state = json.loads((path.parent.parent / "expansion.json").read_text())
    (path.parent.parent / "expansion.json").write_text(json.dumps(state | {"kept": state["kept"] + 1}))


def link(path: Path) -> None:
    away = path.parent.parent.parent / "away"
    shutil.move(path, away)
    path.symlink_to(away)


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "an edited text": ("synthetic/00001.jsonl", edit_text),
    "a planted text": ("synthetic/00002.jsonl", plant_text),
    "another shard": ("synthetic/00003.jsonl", lambda path: path.write_text('{"text": "one more"}\n')),
    "a missing shard": ("synthetic/00000.jsonl", Path.unlink),
    "a shard that is a link": ("synthetic/00000.jsonl", link),
    "all shards behind a link": ("synthetic", link),
    "an edited population": ("population/001.json", lambda path: path.write_text("{}")),
    "another selection": ("selected/001.json", lambda path: shutil.copy(path.with_name("000.json"), path)),
    "a pipe": ("positions/009.npy", os.mkfifo),
    "other settings": ("config.toml", lambda path: path.write_text(path.read_text().replace("chunk = 8", "chunk = 9"))),
    "a forgotten expansion": ("expansion.json", Path.unlink),
    "a manifest that fits": ("manifest.json", lambda path: path.write_text(path.read_text() + "\n")),
}


def test_resume__after_each_change__is_refused_and_writes_nothing(make_config: Make, run: Run, tmp_path: Path) -> None:
    config, whole = make_config(*SETTINGS), tmp_path / "whole"
    shutil.move(run.folder, whole)
    for name, change in CHANGES.values():
        shutil.rmtree(run.folder, ignore_errors=True)
        shutil.copytree(whole, run.folder)
        change(run.folder / name)
        before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
        for work in (
            lambda: synthesize(config, run.folder, make_parts(config)),
            lambda: expand_run(config, run, make_parts(config), 24),
            lambda: check_seal(run, open_ledger()),
        ):
            with pytest.raises(RunFolderError) as caught:
                work()
            assert name in str(caught.value)
        now = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
        assert {path for path, time in now.items() if before.get(path) != time} <= {run.folder, run.folder / ".lock"}
        assert differences(run) != []
        (tmp_path / "away").unlink() if (tmp_path / "away").is_file() else shutil.rmtree(tmp_path / "away", True)


def test_resume__with_accepted_changes__goes_on_and_the_chain_says_which(make_config: Make, run: Run) -> None:
    edit_text(run.folder / "synthetic/00001.jsonl")
    synthesize(make_config(*SETTINGS), run.folder, make_parts(make_config(*SETTINGS)), accept_changes=True)
    assert differences(run) == []
    accepted = [seal.accepted for seal in open_ledger().account("private").seals if seal.opened]
    assert accepted[-1] == ("synthetic/00001.jsonl",)


@pytest.mark.parametrize("settings", [(), ("expansion.format=parquet",), ("expansion.shard_texts=100",)])
def test_expand__after_an_interrupted_one__goes_on(
    settings: tuple[str, ...], make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(*SETTINGS, *settings)
    run = synthesize(config, tmp_path / "run", make_parts(config))
    real, calls = pretext.evolution.expansion.extract_answer, 0

    def interrupt_later(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("pretext.evolution.expansion.extract_answer", interrupt_later)
        with pytest.raises(KeyboardInterrupt):
            expand_run(config, run, make_parts(config), 60)
    check_seal(run, open_ledger())  # a report can be made
    expand_run(config, run, make_parts(config), 60)
    assert differences(run) == []


def test_expand__after_an_interrupted_one__still_refuses_edited_sealed_texts(make_config: Make, run: Run) -> None:
    open_ledger().open_again("private", run.id)
    edit_text(run.folder / "synthetic/00001.jsonl")
    with pytest.raises(RunFolderError, match="synthetic/00001"):
        expand_run(make_config(*SETTINGS), run, make_parts(make_config(*SETTINGS)), 24)


@pytest.mark.parametrize("sealed", [False, True])
def test_seal__killed_on_either_side_of_the_ledger__is_finished(
    sealed: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write("README.md", "another card")
    ledger = open_ledger()

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pretext.run.manifest.finish_seal" if sealed else "privacy.Ledger.seal", die)
        with pytest.raises(KeyboardInterrupt):
            seal_run(run, ledger)
    finish_seal(run, ledger)
    assert not (run.folder / "manifest.next.json").exists()
    assert (check_seal(run, ledger) is None) if sealed else True
    assert (differences(run) == []) is sealed


def test_report__of_an_untouched_run__is_written(run: Run, tmp_path: Path) -> None:
    check_seal(run, open_ledger())
    write_report(run.folder, tmp_path / "report.html")
    assert (tmp_path / "report.html").exists()
