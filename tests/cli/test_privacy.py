"""`pretext privacy` from the command line: its numbers and files, and one sentence for every mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pretext.config.settings import Config
from pretext.home import open_ledger
from pretext.jobs.plan import make_plan
from pretext.jobs.run import synthesize
from pretext.report.page import write_report
from pretext.run.folder import Run
from privacy import Budget
from privacy.rounding import round_up
from tests.support.runs import ACCOUNT, Command, make_parts


@pytest.fixture
def command(called: Command) -> Command:
    """`command("verify", "run")` is `pretext privacy verify run`."""
    return partial(called, "privacy")


@pytest.fixture
def run(make_config: Callable[..., Config], tmp_path: Path) -> Run:
    config = make_config("privacy.epsilon=5")
    return synthesize(config, tmp_path / "run", make_parts(config))


def test_statement(command: Command, run: Run, tmp_path: Path) -> None:
    document = run.load("privacy.json")
    code, out, err = command("statement", run.folder)
    assert code == 0, err
    assert f"({round_up(document['guarantee']['epsilon'])}, 0.001)-differential privacy" in out
    assert json.loads(command("statement", run.folder, "--json")[1]) == document
    code, out, _ = command("statement", run.folder, "--out", tmp_path / "page.md")
    assert (code, out.strip()) == (0, str(tmp_path / "page.md"))
    assert "Signature" in (tmp_path / "page.md").read_text()


def test_statement__a_field_is_missing__names_the_command_that_writes_it_again(command: Command, run: Run) -> None:
    document = run.load("privacy.json")
    del document["dataset"]["ledger_head_sha256"]
    run.save("privacy.json", document)
    code, _, err = command("statement", run.folder, "--out", run.folder / "page.md")
    assert code == 1
    assert f"pretext resume {run.folder}" in err
    assert "dataset.ledger_head_sha256" in err
    assert not (run.folder / "page.md").exists()


@pytest.mark.parametrize("content", ["{}", "[]", "half", '{"dataset": 1}'])
def test_a_damaged_statement_is_one_sentence(content: str, command: Command, run: Run) -> None:
    (run.folder / "privacy.json").write_text(content)
    for name in ("statement", "verify"):
        code, out, err = command(name, run.folder)
        assert code == 1
        assert "Traceback" not in err
        assert "privacy.json" in out + err
    for name in ("curve", "compare"):
        assert command(name, run.folder)[0] == 0, "they read the ledger alone"


def test_curve(command: Command, run: Run) -> None:
    spent = open_ledger().account("private").spent_epsilon
    for arguments in ((run.folder,), ("--dataset", "private")):
        code, out, err = command("curve", *arguments)
        assert code == 0, err
        rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[2:]}
        assert rows["0.001"][0] == round_up(spent)
        assert float(rows["0.001"][1]) > spent
    points = json.loads(command("curve", run.folder, "--json")[1])["curve"]
    assert {"delta", "add/remove", "replace-one"} == set(points[0])
    assert [point["add/remove"] for point in points if point["delta"] == 1e-3] == [pytest.approx(spent)]


def test_the_curve_holds_the_delta_of_the_run(
    command: Command, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config("privacy.epsilon=5", "privacy.delta=3e-5")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    points = json.loads(command("curve", run.folder, "--json")[1])["curve"]
    assert [point["add/remove"] for point in points if point["delta"] == 3e-5] == [pytest.approx(5, abs=1e-3)]
    assert [point["delta"] for point in points] == sorted((point["delta"] for point in points), reverse=True)


@pytest.mark.parametrize("noise", [0.01, 1e6])
def test_extreme_noise_is_told_without_a_warning(noise: float, command: Command) -> None:
    for name in ("calibrate", "compare"):
        code, out, err = command(name, "--noise-multiplier", noise)
        assert (code, err) == (0, "")
        assert json.loads(command(name, "--noise-multiplier", noise, "--json")[1])
        assert ("infinity" in out) == (noise < 1)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_chart_of_the_curve(ending: str, command: Command, run: Run, tmp_path: Path) -> None:
    chart = tmp_path / f"curve.{ending}"
    code, _, err = command("curve", run.folder, "--chart", chart)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert code == 2
        assert "pretext[plot]" in err
        pytest.skip("needs matplotlib")
    assert code == 0, err
    assert chart.read_bytes().startswith(b"<?xml" if ending == "svg" else b"\x89PNG")


@pytest.mark.parametrize("relation", ["add/remove", "replace-one"])
@pytest.mark.parametrize("target", [("epsilon", 1.29), ("noise_multiplier", 11.3)])
def test_calibrate_says_what_plan_says(
    target: tuple[str, float], relation: str, command: Command, make_config: Callable[..., Config]
) -> None:
    name, value = target
    config = make_config(
        f"privacy.{name}={value}", "privacy.delta=3e-6", "privacy.rounds=11", f"privacy.relation={relation}"
    )
    plan = make_plan(config)
    flags = [f"--{name.replace('_', '-')}", value, "--delta", 3e-6, "--rounds", 11, "--relation", relation]
    answer = json.loads(command("calibrate", *flags, "--json")[1])
    assert answer["noise_multiplier"] == pytest.approx(plan.noise_multiplier, rel=1e-7)
    assert answer["sigma_votes"] == pytest.approx(plan.sigma, rel=1e-7)
    assert answer["epsilon"][relation] == pytest.approx(plan.epsilon, rel=1e-7)
    assert answer["epsilon"]["add/remove"] < answer["epsilon"]["replace-one"]
    code, out, _ = command("calibrate", *flags)
    assert code == 0
    assert round_up(answer["noise_multiplier"], 5) in out
    assert f"{round_up(answer['epsilon'][relation])} (delta 3e-06, unit client, relation {relation})" in out


def test_calibrate_one_release_of_one_text(command: Command) -> None:
    answer = json.loads(
        command("calibrate", "--epsilon", 1, "--delta", 1e-6, "--rounds", 1, "--max-texts-per-client", 1, "--json")[1]
    )
    assert answer["noise_multiplier"] == pytest.approx(4.22468, abs=2e-4)
    assert answer["sigma_votes"] == pytest.approx(answer["noise_multiplier"])


def test_compare(command: Command, run: Run) -> None:
    comparison = json.loads(command("compare", run.folder, "--json")[1])
    exact = comparison["accountants"][0]
    assert (comparison["releases"], exact["name"]) == (3, "exact")
    assert exact["epsilon"] == pytest.approx(run.load("privacy.json")["guarantee"]["epsilon"])
    code, out, _ = command("compare", "--noise-multiplier", 11.3, "--delta", 3e-6, "--rounds", 11)
    assert code == 0
    rows = {line[:17].strip(): line[17:].split()[0] for line in out.splitlines()[2:]}
    assert (rows["exact"], rows["Renyi"]) == ("1.189", "1.2876")
    assert list(rows) == ["exact", "Renyi", "zCDP", "zCDP, classical", "basic"]


def test_verify(command: Command, run: Run) -> None:
    code, out, err = command("verify", run.folder)
    assert (code, err) == (0, "")
    assert out.count("ok  ") == 10
    assert json.loads(command("verify", run.folder, "--json")[1])["verified"] is True
    with (run.folder / "synthetic.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    code, out, err = command("verify", run.folder)
    assert code == 1
    assert out.startswith("synthetic.jsonl, bytes: ")
    assert len(out.splitlines()) == 1
    assert str(run.folder) in err
    code, out, _ = command("verify", run.folder, "--json")
    verification = json.loads(out)
    assert (code, verification["verified"]) == (1, False)
    assert verification["checks"][0]["differences"][0]["file"] == "synthetic.jsonl"


WRONG = {
    "curve of nothing": (["curve"], 2, "--dataset"),
    "curve of two things": (["curve", "{run}", "--dataset", "private"], 2, "--dataset"),
    "curve of an unknown dataset": (["curve", "--dataset", "nobody"], 2, "'nobody'"),
    "chart of another kind": (["curve", "{run}", "--chart", "x.pdf"], 2, ".svg or .png"),
    "statement of no run": (["statement", "nowhere"], 1, "nowhere"),
    "statement of another kind": (["statement", "{run}", "--out", "x.pdf"], 2, ".md"),
    "verify without a folder": (["verify"], 2, "FOLDER"),
    "verify no run": (["verify", "nowhere"], 1, "nowhere"),
    "calibrate nothing": (["calibrate"], 2, "--epsilon"),
    "calibrate both": (["calibrate", "--epsilon", "1", "--noise-multiplier", "2"], 2, "--noise-multiplier"),
    "calibrate to nothing": (["calibrate", "--epsilon", "0"], 2, "privacy.epsilon"),
    "calibrate to nan": (["calibrate", "--epsilon", "nan"], 2, "privacy.epsilon"),
    "delta 2": (["calibrate", "--epsilon", "1", "--delta", "2"], 2, "privacy.delta"),
    "no rounds": (["calibrate", "--epsilon", "1", "--rounds", "0"], 2, "privacy.rounds"),
    "another relation": (["calibrate", "--epsilon", "1", "--relation", "swap"], 2, "add/remove"),
    "compare two things": (["compare", "{run}", "--epsilon", "1"], 2, "--epsilon"),
    "compare nothing": (["compare"], 2, "--epsilon"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_sentence(case: str, command: Command, run: Run) -> None:
    arguments, exit_code, name = WRONG[case]
    code, out, err = command(*(str(run.folder) if argument == "{run}" else argument for argument in arguments))
    assert code == exit_code
    assert name in err
    assert out == ""
    assert "Traceback" not in err


def test_before_anything_was_released(command: Command, make_config: Callable[..., Config], tmp_path: Path) -> None:
    run = Run.create(tmp_path / "fresh", make_config(), ACCOUNT)
    code, _, err = command("statement", run.folder)
    assert code == 1
    assert f"pretext resume {run.folder}" in err
    for name in ("curve", "compare"):
        code, _, err = command(name, run.folder)
        assert code == 1
        assert "ledger.sqlite" in err
    open_ledger()
    code, out, err = command("verify", run.folder)
    assert code == 1
    assert out.startswith("manifest.json: ")


def test_a_corrupted_ledger_is_one_sentence(command: Command, run: Run, home: Path) -> None:
    (home / "ledger.sqlite").write_bytes(b"garbage" * 1000)
    code, _, err = command("verify", run.folder)
    assert code == 1
    assert str(home / "ledger.sqlite") in err


def strict(text: str) -> Any:
    """JSON as others read it: no Infinity, no NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_an_infinite_loss_is_strict_json_and_told_in_words(
    command: Command, run: Run, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """The same dataset again, at a delta so small that the noise's slack alone is more."""
    assert open_ledger().set_budget("private", Budget(50, 1e-3))
    terms = ("privacy.noise_multiplier=0.6", "privacy.delta=1e-12", "privacy.budget_epsilon=50")
    config = make_config(*terms, "evolution.threshold=0")
    second = synthesize(config, tmp_path / "second", make_parts(config))
    document = strict((second.folder / "privacy.json").read_text())
    assert document["guarantee"]["epsilon"] is None and document["dataset"]["spent_epsilon"] < 50
    assert "(infinity, 1e-12)-differential privacy" in command("statement", second.folder)[1]
    assert strict(command("statement", second.folder, "--json")[1]) == document
    assert command("statement", second.folder, "--out", tmp_path / "page.md")[0] == 0
    assert "epsilon infinity at delta 1e-12" in (tmp_path / "page.md").read_text()
    assert command("verify", second.folder)[0] == 0
    assert "(infinity, 1e-12)" in (second.folder / "README.md").read_text()
    write_report(second.folder, tmp_path / "report.html")
    assert "infinity" in (tmp_path / "report.html").read_text()


def test_json_names_unit_and_relation(command: Command, run: Run) -> None:
    comparison = strict(command("compare", run.folder, "--json")[1])
    assert (comparison["unit"], comparison["relation"]) == ("client", "add/remove")
    assert strict(command("curve", run.folder, "--json")[1])["unit"] == "client"
    assert strict(command("calibrate", "--epsilon", 1, "--json")[1])["unit"] == "client"
