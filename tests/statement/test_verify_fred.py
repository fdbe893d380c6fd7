"""A FreD folder, and a run in which FreD found the candidates, are verified like any other."""

from __future__ import annotations

import json
from pathlib import Path

from pretext.home import open_ledger
from pretext.jobs.fred import run_fred
from pretext.jobs.run import synthesize
from pretext.statement.signature_page import render_signature_page
from pretext.statement.verify import verify_folder
from tests.jobs.test_fred_in_run import Make, make_found
from tests.support.runs import make_parts

__all__ = ["make_found"]


def found(folder: Path) -> list[str]:
    return [str(difference) for check in verify_folder(folder, open_ledger()) for difference in check.differences]


def test_a_fred_folder(make_found: Make, tmp_path: Path) -> None:
    config = make_found()
    for _ in range(2):  # asked again, it is replayed and nothing changes
        folder = run_fred(config, tmp_path / "fred", make_parts(config)).folder
        assert found(folder) == []
    assert len(open_ledger().account("private").seals) == 1
    stated = json.loads((folder / "privacy.json").read_text())
    assert stated["dataset"]["history"][0]["run"] == "fred"
    assert {"guarantee", "other_relation", "run"} <= stated.keys()
    assert "moments of the clients' embeddings" in render_signature_page(stated, folder)

    stated["guarantee"]["epsilon"] = 1.0
    (folder / "privacy.json").write_text(json.dumps(stated))
    assert any(line.startswith("privacy.json, guarantee.epsilon: expected 7.99") for line in found(folder))
    question = json.loads((folder / "query.json").read_text())
    (folder / "query.json").write_text(json.dumps({**question, "embedder": "another"}))
    told = found(folder)
    for words in ("query.json, bytes", "ledger, fred/"):
        assert any(line.startswith(words) for line in told), (words, told)
    (folder / "ranking.json").unlink()
    assert "ranking.json: expected a file, found no file" in found(folder)
    (folder / "query.json").write_text("{}")
    assert any(line.startswith("ledger: expected the account of the run") for line in found(folder))


def test_a_run_in_which_fred_found_the_candidates(make_found: Make, tmp_path: Path) -> None:
    config = make_found("privacy.rounds=2")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    assert found(run.folder) == []
    assert any("FreD's question" in check.words for check in verify_folder(run.folder, open_ledger()))
    question = run.load("query.json")
    run.save("query.json", {**question, "noise_multiplier": question["noise_multiplier"] * 2})
    told = found(run.folder)
    assert any(line.startswith("query.json, noise: expected") for line in told), told
    question["query"]["radius"] *= 2
    run.save("query.json", question)
    assert any(line.startswith("query.json, digest of the question") for line in found(run.folder))
