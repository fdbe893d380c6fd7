"""`pretext audit`: what it prints, how it exits, what it refuses, what it leaves alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pretext.audit.finding import Finding
from pretext.cli.plots import draw_bounds
from pretext.config.settings import Config
from pretext.errors import UsageError
from pretext.jobs.run import synthesize
from tests.support import broken
from tests.support.runs import Command, make_parts

pytestmark = pytest.mark.slow

SMALL = ("--games", "256", "--runs", "0", "--set", "privacy.rounds=1", "--set", "evolution.seeds_from_round=0")


@pytest.fixture
def command(called: Command) -> Command:
    """`command("--json")` is `pretext audit --json`."""
    return partial(called, "audit")


def test_without_a_configuration(command: Command, home: Path) -> None:
    code, out, _ = command("--games", "256", "--runs", "2")
    assert code == 0
    assert "hostile server" in out and "neighbors before the noise" in out
    assert "no private file" in out and "is no proof of privacy" in out
    assert "ABOVE THE CLAIM  " not in out
    assert not home.exists()


def test_a_program_that_breaks_its_promise(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    broken.forget_the_bound(monkeypatch)
    code, out, _ = command(*SMALL, "--json")
    result = json.loads(out)
    assert code == 1
    assert result["exceeded"] is True
    assert "ABOVE THE CLAIM" in [finding["verdict"] for finding in result["findings"]]
    assert "origins" not in result


def test_a_run_folder_and_its_origins(
    make_config: Callable[..., Config], tmp_path: Path, command: Command, home: Path, private_file: Path
) -> None:
    config = make_config("privacy.epsilon=5", "privacy.rounds=2")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    private_file.unlink()  # it is not opened
    code, out, _ = command(run.folder, "--games", "256", "--runs", "0")
    assert code == 0
    assert "Attacked: 2 rounds, delta 0.001" in out
    assert "as they should be (digests from the ledger)" in out
    for file in home.glob("ledger*"):
        file.unlink()
    path = run.folder / "population" / "001.json"
    stored = json.loads(path.read_text())
    stored["candidates"][0][0] = "an edited candidate"
    path.write_text(json.dumps(stored))
    code, out, _ = command(run.folder, "--games", "256", "--runs", "0")
    assert code == 1
    assert "wrong, 2 times (digests from privacy.json, no ledger knows the run" in out
    assert "population/001.json, digest of the candidates: expected" in out
    assert "population/001.json, candidate 0: expected the same text as its parent, found kept" in out


def test_a_configuration_file(tmp_path: Path, command: Command) -> None:
    (tmp_path / "own.toml").write_text(
        '[privacy]\nepsilon = 3.0\nrelation = "replace-one"\n[initial]\nprompts = ["x"]\n'
    )
    code, out, _ = command(tmp_path / "own.toml", *SMALL, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["relation"], result["rounds"]) == ("replace-one", 1)
    assert all(2.99 < finding["claim"] <= 3 for finding in result["findings"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.toml",), "There is no configuration file nowhere.toml"),
        (("--chart", "x.gif"), "must end in .svg or .png"),
        (("--chart", "no/such/x.svg"), "there is no folder"),
        (("--games", "3"), "256<=x<=10000000"),
        (("--set", "privacy.epsilon=-1"), "privacy.epsilon"),
        (("tests",), "is not a run folder"),
    ],
)
def test_wrong_use_is_one_sentence(arguments: tuple[str, ...], words: str, command: Command) -> None:
    code, out, err = command(*arguments)
    assert code in (1, 2)
    assert words in err and "Traceback" not in err and out == ""


def finding(bound: float) -> Finding:
    return Finding("an attack", "a method", 10, bound, bound / 2, 4.0)


def test_no_finite_bound(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    broken.seed_noise_once(monkeypatch)
    code, out, _ = command(*SMALL)
    line = next(line for line in out.splitlines() if line.startswith("the noise of two processes"))
    assert code == 1 and "no finite one" in line and line.endswith("ABOVE THE CLAIM")
    code, out, _ = command(*SMALL, "--json")
    assert next(row for row in json.loads(out)["findings"] if "processes" in row["attack"])["bound"] is None


def test_the_verdicts() -> None:
    assert finding(3.9).verdict == "below the claim"
    assert finding(4.1).verdict == "above, within chance"
    assert finding(8.1).verdict == "ABOVE THE CLAIM"


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_chart(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_bounds([finding(3.9), finding(8.1), finding(float("inf"))], tmp_path / f"chart.{ending}")
    assert (tmp_path / f"chart.{ending}").stat().st_size > 1000
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        draw_bounds([finding(3.9)], tmp_path / "folder.svg")


def test_a_chart_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pretext\[plot\]"):
        draw_bounds([finding(1.0)], tmp_path / "chart.svg")
