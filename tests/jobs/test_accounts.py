"""A run and its account: bound to one ledger, reserved as a whole, and a start that failed locks nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pretext.config.settings import Config
from pretext.errors import EngineError, RunFolderError, UsageError
from pretext.home import open_ledger
from pretext.jobs.plan import make_plan
from pretext.jobs.run import expand_run, synthesize
from pretext.models.engines.scripted import ScriptedEngine
from pretext.prompts import Prompt
from pretext.run.folder import Run
from pretext.run.lock import lock_folder
from privacy import Account, Budget, BudgetExceeded, Cost, DiscreteGaussian, LedgerConflict
from tests.support.runs import make_parts, reply

Make = Callable[..., Config]


class Broken(Exception):
    """What a test breaks a run off with."""


def account(name: str = "private") -> Account:
    return open_ledger().account(name)


def broken_off(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Run until `after` releases were drawn, and then fail at the next draw."""
    draw, drawn = DiscreteGaussian.draw, []

    def draw_or_break(mechanism: DiscreteGaussian, bounded: object) -> object:
        if len(drawn) == after:
            raise Broken
        drawn.append(1)
        return draw(mechanism, bounded)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(DiscreteGaussian, "draw", draw_or_break)
        with pytest.raises(Broken):
            synthesize(config, folder, make_parts(config))


def test_synthesize__finished__leaves_nothing_reserved(make_config: Make, tmp_path: Path) -> None:
    synthesize(make_config(), tmp_path / "run", make_parts(make_config()))
    assert account().balance.reserved == {}
    assert len(account().releases) == 3


def with_noise(config: Config, **terms: float) -> Config:
    return config.model_copy(update={"privacy": config.privacy.model_copy(update={"epsilon": None, **terms})})


@pytest.mark.parametrize("multiplier", [1.5, 5.0, 40.0])
def test_synthesize__of_a_configured_noise__begins_with_a_budget_that_holds_it(
    multiplier: float, make_config: Make, tmp_path: Path
) -> None:
    config = with_noise(make_config("evolution.threshold=0"), noise_multiplier=multiplier)
    statement = synthesize(config, tmp_path / "run", make_parts(config)).require_statement()
    assert len(account().releases) == 3
    assert account().budget.epsilon == pytest.approx(statement.guarantee.epsilon, rel=1e-3)


def test_synthesize__of_a_noise_that_no_budget_holds__is_refused_before_anything_is_made(
    make_config: Make, tmp_path: Path
) -> None:
    config = with_noise(make_config(), noise_multiplier=0.6, delta=1e-12)
    with pytest.raises(UsageError):
        synthesize(config, tmp_path / "run", make_parts(config))
    assert not (tmp_path / "run").exists() and open_ledger().names() == []


def test_synthesize__broken_off_before_the_first_release__gives_all_back(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off(make_config(), tmp_path / "run", monkeypatch, 0)
    assert account().balance.reserved == {}
    assert account().releases == ()


def test_synthesize__broken_off_later__keeps_the_rest_for_itself(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run is refused and draws nothing; the first one is resumed and finishes."""
    config = make_config("evolution.threshold=0")
    broken_off(config, tmp_path / "run", monkeypatch, 1)
    run, _ = Run.open(tmp_path / "run")
    assert list(account().balance.reserved) == [run.id]
    with pytest.raises(BudgetExceeded, match=f"pretext ledger release {run.id}"):
        synthesize(config, tmp_path / "other", make_parts(config))
    assert len(account().releases) == 1
    statement = run.require_statement()
    assert statement.guarantee.epsilon == make_plan(config).epsilon, "what was fixed beforehand"
    assert statement.reading_epsilon < 0.8 * statement.guarantee.epsilon
    synthesize(config, tmp_path / "run", make_parts(config))
    assert (len(account().releases), account().balance.reserved) == (3, {})
    finished = run.require_statement()
    assert finished.guarantee == statement.guarantee
    assert finished.reading_epsilon == pytest.approx(finished.guarantee.epsilon)


def test_synthesize__first_start_failed__the_next_one_chooses_anew(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another epsilon, unit, relation and name, in the same folder and in another one."""
    first = make_config("privacy.epsilon=1", "privacy.dataset=typo")
    broken_off(first, tmp_path / "run", monkeypatch, 0)
    run, _ = Run.open(tmp_path / "run")
    more = make_config("privacy.epsilon=15", "privacy.relation=replace-one", "evolution.population=20")
    again = synthesize(more, tmp_path / "run", make_parts(more))
    assert (again.id, again.account.dataset) == (run.id, "private")
    assert (account().budget.epsilon, account().relation.value) == (15, "replace-one")
    with pytest.raises(RunFolderError, match="another configuration"):
        synthesize(first, tmp_path / "run", make_parts(first))


def test_synthesize__another_start_was_killed__takes_over_what_it_reserved(make_config: Make, tmp_path: Path) -> None:
    """It drew nothing and nobody works in its folder; a run that is at work keeps its own."""
    config = make_config("privacy.epsilon=1", "evolution.threshold=0")
    ledger, dead, alive = open_ledger(), tmp_path / "dead", tmp_path / "alive"
    terms = (config.unit, config.privacy.relation, Budget(1.0, config.privacy.delta))
    ledger.register("private", str(config.data.path), *terms)
    ledger.reserve("private", "killed", Cost(0.05), config.unit, str(dead))
    synthesize(config, tmp_path / "run", make_parts(config))
    ledger.set_budget("private", Budget(1.5, config.privacy.delta))
    ledger.reserve("private", "working", Cost(0.05), config.unit, str(alive))
    with lock_folder(alive), pytest.raises(BudgetExceeded, match="working"):
        synthesize(config, tmp_path / "other", make_parts(config))


def test_synthesize__generator_fails__locks_neither_dataset_nor_folder(make_config: Make, tmp_path: Path) -> None:
    def fail(prompt: Prompt, rng: np.random.Generator) -> str:
        raise EngineError("The server does not answer.")

    first = make_config("privacy.epsilon=1")
    with pytest.raises(EngineError):
        synthesize(first, tmp_path / "run", make_parts(first, ScriptedEngine(fail)))
    assert account().balance.reserved == {}
    more = make_config("privacy.epsilon=15", "evolution.threshold=0")
    synthesize(more, tmp_path / "run", make_parts(more, ScriptedEngine(reply)))
    assert account().budget.epsilon == 15


@pytest.mark.parametrize("evidence", ["selected", "privacy.json"])
@pytest.mark.parametrize("act", ["resume", "expand"])
def test_a_run__older_copy_of_its_ledger__is_refused_and_draws_nothing(
    act: str, evidence: str, make_config: Make, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("evolution.threshold=0")
    broken_off(config, tmp_path / "run", monkeypatch, 1)
    shutil.copy(home / "ledger.sqlite", home / "older")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    (home / "older").rename(home / "ledger.sqlite")
    if evidence == "selected":
        (run.folder / "privacy.json").unlink()
    else:
        shutil.rmtree(run.folder / "selected")
    monkeypatch.setattr(DiscreteGaussian, "draw", lambda *_: pytest.fail("noise was drawn"))
    before = {path: path.read_bytes() for path in run.folder.rglob("*.json")}
    acts = {
        "resume": lambda: synthesize(config, run.folder, make_parts(config)),
        "expand": lambda: expand_run(config, run, make_parts(config), 40),
    }
    with pytest.raises(LedgerConflict, match="votes/1") as caught:
        acts[act]()
    assert str(run.folder) in str(caught.value)
    assert {path: path.read_bytes() for path in run.folder.rglob("*.json")} == before
    assert len(account().releases) == 1


def test_run_file__names_dataset_and_ledger(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    run = synthesize(config, tmp_path / "run", make_parts(config))
    stored = json.loads((run.folder / "run.json").read_text())
    ledger = open_ledger()
    assert stored["account"] == {"dataset": "private", "ledger": ledger.identity, "path": str(ledger.path)}


@pytest.mark.parametrize("alias", ["linked", "renamed"])
def test_synthesize__same_file_under_another_path__is_refused_and_leaves_no_folder(
    alias: str, make_config: Make, tmp_path: Path, private_file: Path
) -> None:
    config = make_config("privacy.budget_epsilon=50")
    synthesize(config, tmp_path / "run", make_parts(config))
    other = tmp_path / "notes.jsonl"
    os.link(private_file, other) if alias == "linked" else private_file.rename(other)
    again = make_config("privacy.budget_epsilon=50", f"data.path={other}")
    with pytest.raises(LedgerConflict, match="already charged as dataset 'private'"):
        synthesize(again, tmp_path / "second", make_parts(again))
    assert not (tmp_path / "second").exists()
    assert open_ledger().names() == ["private"]
    named = make_config("privacy.dataset=private", "privacy.epsilon=2", f"data.path={other}")
    with pytest.raises(BudgetExceeded, match="private"):  # the same account, with its own budget
        synthesize(make_config("privacy.dataset=private", "privacy.epsilon=45", f"data.path={other}"),
                   tmp_path / "third", make_parts(named))  # fmt: skip


def test_a_dataset__new__is_said_aloud_once(
    make_config: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config("privacy.epsilon=5", "privacy.budget_epsilon=15", "evolution.threshold=0")
    synthesize(config, tmp_path / "run", make_parts(config))
    assert caplog.text.count("Dataset 'private' is new") == caplog.text.count("Made a new ledger") == 1
    caplog.clear()
    synthesize(config, tmp_path / "second", make_parts(config))
    assert "is new" not in caplog.text
    other = make_config("privacy.dataset=other", "privacy.epsilon=1")
    synthesize(other, tmp_path / "other", make_parts(other), confirmed=True)
    assert "also knows: private" in caplog.text
