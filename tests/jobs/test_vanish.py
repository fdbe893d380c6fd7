"""A run folder that somebody takes away in the middle: one sentence, nothing is made again, nothing more is drawn."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pretext.audit.finding import Finding
from pretext.audit.run import Audit, default_config
from pretext.clients.federation import LocalFederation
from pretext.config.settings import Config, Initial
from pretext.errors import RunFolderError
from pretext.home import open_ledger
from pretext.jobs.fred import run_fred
from pretext.jobs.parts import Parts
from pretext.jobs.run import expand_run, synthesize
from pretext.models.engines.scripted import ScriptedEngine
from pretext.run.folder import LOCK_FILE, Run
from pretext.run.lock import lock_folder
from tests.support.runs import Command, make_parts, reply, write_rows

SMALL = ("privacy.rounds=2", "expansion.texts=8", "speed.chunk=4")


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def rename(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def replace_by_another_run(folder: Path) -> None:
    """Put a folder there that looks the same but belongs to another run."""
    rename(folder)
    shutil.copytree(folder.with_name("elsewhere"), folder)
    run_file = folder / "run.json"
    run_file.write_text(run_file.read_text().replace(Run.open(folder)[0].id, "0" * 12))


TAKE_AWAY = pytest.mark.parametrize("take_away", [remove, rename, replace_by_another_run])


def files_in(folder: Path) -> dict[Path, bytes] | None:
    """Return all files of a folder, or None if there is none."""
    if not folder.exists():
        return None
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Thief:
    """Takes a folder away at the n-th call, and remembers what lies there from then on."""

    def __init__(self, folder: Path, take_away: Callable[[Path], None], at: int) -> None:
        self.folder, self.take_away, self.left = folder, take_away, at
        self.found: dict[Path, bytes] | None = None
        self.releases = 0

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.take_away(self.folder)
            self.found = files_in(self.folder)
            self.releases = count_releases()

    def check(self) -> None:
        assert self.left <= 0, "it never came to it"
        assert files_in(self.folder) == self.found
        assert count_releases() == self.releases


class StolenEngine(ScriptedEngine):
    """A generator during whose work the folder goes away."""

    def __init__(self, thief: Thief) -> None:
        super().__init__(reply)
        self.thief = thief

    def complete(self, *arguments: Any, **named: Any) -> list[str | None]:
        self.thief()
        return super().complete(*arguments, **named)


def count_releases() -> int:
    ledger = open_ledger()
    return sum(len(ledger.account(name).releases) for name in ledger.names())


def with_slow_clients(parts: Parts, thief: Thief) -> Parts:
    """Let the folder go away while clients answer."""
    federation = parts.federation
    assert isinstance(federation, LocalFederation)

    class Clients:
        def __getattr__(self, name: str) -> Any:
            def ask(*arguments: Any) -> Any:
                thief()
                return getattr(federation, name)(*arguments)

            return ask

    return replace(parts, federation=Clients())


@TAKE_AWAY
@pytest.mark.parametrize("at", range(1, 6), ids=lambda at: f"batch {at}")
def test_run__folder_goes_away_while_texts_are_written__ends_in_one_sentence(
    at: int, take_away: Callable[[Path], None], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config, thief = make_config(*SMALL), Thief(tmp_path / "run", take_away, at)
    with pytest.raises(RunFolderError, match="not this run's folder any more"):
        synthesize(config, thief.folder, make_parts(config, StolenEngine(thief)))
    thief.check()


@TAKE_AWAY
@pytest.mark.parametrize("number", [1, 2])
def test_run__folder_goes_away_while_clients_vote__draws_nothing(
    number: int, take_away: Callable[[Path], None], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config, thief = make_config(*SMALL), Thief(tmp_path / "run", take_away, number)
    with pytest.raises(RunFolderError):
        synthesize(config, thief.folder, with_slow_clients(make_parts(config), thief))
    thief.check()
    assert thief.releases == number - 1


@TAKE_AWAY
def test_expand__folder_goes_away__ends_in_one_sentence(
    take_away: Callable[[Path], None], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(*SMALL, "expansion.shard_texts=5")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    thief = Thief(run.folder, take_away, 2)
    with pytest.raises(RunFolderError):
        expand_run(config, run, make_parts(config, StolenEngine(thief)), 30)
    thief.check()


@TAKE_AWAY
def test_fred__folder_goes_away_while_clients_answer__draws_nothing(
    take_away: Callable[[Path], None], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    sets = [
        write_rows(tmp_path / f"{name}.jsonl", [{"text": f"{name} number {i} of a public set"} for i in range(40)])
        for name in "ab"
    ]
    initial = Initial(public_sets=tuple(map(str, sets)))
    config = make_config("privacy.clients=60").model_copy(update={"initial": initial})
    thief = Thief(tmp_path / "fred", take_away, 1)
    with pytest.raises(RunFolderError):
        run_fred(config, thief.folder, with_slow_clients(make_parts(config), thief))
    thief.check()
    assert thief.releases == 0


@pytest.mark.parametrize("reason", [None, KeyboardInterrupt(), OSError(), RunFolderError("damaged")], ids=repr)
def test_lock__folder_goes_away__is_the_reason_of_whatever_went_wrong(
    reason: BaseException | None, tmp_path: Path
) -> None:
    with pytest.raises(RunFolderError, match="any more"), lock_folder(tmp_path / "run"):
        fail_after(rename, tmp_path / "run", reason)
    assert not (tmp_path / "run").exists()


def test_lock__folder_of_another_takes_its_place__is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError), lock_folder(tmp_path / "run"):
        fail_after(replace_by_an_empty_run, tmp_path / "run", None)
    assert (tmp_path / "run" / LOCK_FILE).exists()


@pytest.mark.parametrize("command", ["evaluate", "audit"])
def test_long_work__the_folder_of_its_file_goes_away__is_printed_all_the_same(
    command: str,
    called: Command,
    make_config: Callable[..., Config],
    private_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    evaluation = SimpleNamespace(to_json=lambda: '{"what": "took long"}')
    audit = Audit(default_config().privacy, [Finding("what took long", "calculated", 1, 1.0, 1.0, 2.0)])

    def work(*_: object, **__: object) -> object:
        out.rmdir()
        return evaluation if command == "evaluate" else audit

    monkeypatch.setattr("pretext.evaluation.evaluate.evaluate_run", work)
    monkeypatch.setattr("pretext.audit.run.run_audit", work)
    if command == "evaluate":
        config = make_config(*SMALL)
        run = synthesize(config, tmp_path / "run", make_parts(config))
        line = ("evaluate", run.folder, "--test", private_file, "--json", "--out", out / "evaluation.json")
    else:
        line = ("audit", "--chart", out / "chart.svg")
    code, printed, err = called(*line)
    assert (code, "took long" in printed, str(out) in err) == (2, True, True)
    assert not out.exists()


def test_export__the_folder_of_its_file_goes_away__makes_nothing_again(
    called: Command, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = make_config(*SMALL), tmp_path / "out"
    run = synthesize(config, tmp_path / "run", make_parts(config))

    def rows_without_a_place(*_: object) -> Iterator[dict[str, str]]:
        shutil.rmtree(out)
        yield {"text": "a text"}

    monkeypatch.setattr("pretext.report.export.synthetic_rows", rows_without_a_place)
    for ending in ("csv", "jsonl", "parquet"):
        out.mkdir()
        code, _, err = called("export", run.folder, "--to", out / f"texts.{ending}")
        assert (code, str(out) in err, out.exists()) == (2, True, False)


def replace_by_an_empty_run(folder: Path) -> None:
    rename(folder)
    folder.mkdir()
    (folder / LOCK_FILE).touch()


def fail_after(take_away: Callable[[Path], None], folder: Path, reason: BaseException | None) -> None:
    take_away(folder)
    if reason is not None:
        raise reason
