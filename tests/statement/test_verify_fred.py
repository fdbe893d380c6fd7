"""A FreD folder, and a run in which FreD found the public sets, are verified like any other."""

from __future__ import annotations

import json
from pathlib import Path

from pretext.home import open_ledger
from pretext.jobs.fred import run_fred
from pretext.jobs.run import synthesize
from pretext.run.folder import Run
from pretext.statement.signature_page import render_signature_page
from pretext.statement.verify import verify_folder
from tests.jobs.test_fred_in_run import Make, make_fred_config
from tests.support.runs import make_parts

__all__ = ["make_fred_config"]


def differences(folder: Path) -> list[str]:
    return [str(difference) for check in verify_folder(folder, open_ledger()) for difference in check.differences]


def test_a_fred_folder(make_fred_config: Make, tmp_path: Path) -> None:
    config = make_fred_config()
    for _ in range(2):  # asked again, it is replayed and nothing changes
        folder = run_fred(config, tmp_path / "fred", make_parts(config)).folder
        assert differences(folder) == []
    assert len(open_ledger().account("private").seals) == 1
    statement = json.loads((folder / "privacy.json").read_text())
    assert statement["dataset"]["history"][0]["run"] == "fred"
    assert {"guarantee", "other_relation", "run"} <= statement.keys()
    assert "moments" in render_signature_page(Run.open(folder)[0].require_statement(), folder)

    statement["guarantee"]["epsilon"] = 1.0
    (folder / "privacy.json").write_text(json.dumps(statement))
    assert any(line.startswith("privacy.json, guarantee.epsilon: expected 7.99") for line in differences(folder))
    query = json.loads((folder / "query.json").read_text())
    (folder / "query.json").write_text(json.dumps({**query, "embedder": "another"}))
    lines = differences(folder)
    for words in ("query.json, bytes", "ledger, fred/"):
        assert any(line.startswith(words) for line in lines), (words, lines)
    (folder / "ranking.json").unlink()
    assert any(line.startswith("ranking.json") for line in differences(folder))
    (folder / "query.json").write_text("{}")
    assert any(line.startswith("ledger") for line in differences(folder))


def test_a_run_in_which_fred_found_the_public_sets(make_fred_config: Make, tmp_path: Path) -> None:
    config = make_fred_config("privacy.rounds=2")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    assert differences(run.folder) == []
    query = run.load("query.json")
    run.save("query.json", {**query, "noise_multiplier": query["noise_multiplier"] * 2})
    lines = differences(run.folder)
    assert any(line.startswith("query.json, noise") for line in lines), lines
    query["moments"]["radius"] *= 2
    run.save("query.json", query)
    assert any(line.startswith("query.json, digest") for line in differences(run.folder))
