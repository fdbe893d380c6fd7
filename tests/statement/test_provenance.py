"""Every candidate says where it comes from, and what is wrong with that is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretext.config.settings import Config
from pretext.home import open_ledger
from pretext.jobs.run import synthesize
from pretext.lazy import Once
from pretext.run.folder import Run
from pretext.run.records import Candidate, Origin
from pretext.statement.provenance import Difference, check_provenance
from tests.support.runs import make_parts

Make = Callable[..., Config]


def finish(config: Config, folder: Path) -> tuple[Run, dict[str, str]]:
    run = synthesize(config, folder, make_parts(config))
    ledger = open_ledger()
    return run, {release.label: release.subject for release in ledger.account(ledger.names()[0]).releases}


def provenance(config: Config, run: Run, subjects: dict[str, str]) -> list[Difference]:
    return check_provenance(run, config.privacy.rounds, config.initial, config.screening.max_words, subjects)


def messages(config: Config, run: Run, subjects: dict[str, str]) -> list[str]:
    return [str(difference) for difference in provenance(config, run, subjects)]


def edit(run: Run, round_number: int, change: Callable[[dict[str, Any]], None]) -> None:
    path = run.folder / "population" / f"{round_number:03}.json"
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))


def test_a_run_has_nothing_wrong_and_says_where_candidates_come_from(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    run, subjects = finish(config, tmp_path / "run")
    assert provenance(config, run, subjects) == []
    kinds = [{candidate.origin.kind for candidate in run.population(t) or [] if candidate.origin} for t in range(3)]
    assert kinds == [{"public"}, {"kept", "variation"}, {"kept", "variation"}]
    assert len(subjects) == 3


def test_prompts_and_several_sources_are_told_apart(make_config: Make, tmp_path: Path) -> None:
    config = make_config("initial.prompts=['Words about computers.']", "initial.prompted_share=0.25")
    run, subjects = finish(config, tmp_path / "run")
    origins = [candidate.origin for candidate in run.population(0) or []]
    assert (origins.count(Origin("prompt", 0)), origins.count(Origin("public", 0))) == (6, 18)
    assert provenance(config, run, subjects) == []


def test_a_round_that_is_repeated_says_so(make_config: Make, tmp_path: Path) -> None:
    config = make_config("evolution.kept_parents=0", "evolution.selection=rank")  # a quarter survives

    def repeat(parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator) -> list[str | None]:
        if not (tmp_path / "run/selected/000.json").exists():
            return [f"{parent.text} again" for parent in parents]
        return ["the very same words"] * len(parents)

    failing = Once(lambda: repeat)
    run = synthesize(config, tmp_path / "run", replace(make_parts(config), variation=failing))  # type: ignore[arg-type]
    assert {candidate.origin.kind for candidate in run.population(1) or [] if candidate.origin} == {"kept", "again"}
    assert provenance(config, run, {}) == []
    # A repeated round holds no variation: such a one was put there by somebody.
    edit(run, 1, lambda stored: stored["origins"].__setitem__(0, ["variation", 0]))
    assert len(provenance(config, run, {})) == 1


def test_a_crafted_first_candidate_is_found(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    run, subjects = finish(config, tmp_path / "run")
    edit(run, 0, lambda stored: stored["candidates"].__setitem__(3, ["what the server knows of somebody", 0]))
    wrong = provenance(config, run, subjects)
    assert [difference.where for difference in wrong] == ["digest of the candidates", ""]
    assert wrong[0].expected == subjects[f"{run.id}/votes/0"] != wrong[0].actual
    assert wrong[1].actual == "1 text not in there"


def test_a_text_of_a_prompt_that_nobody_gave_is_found(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    run, subjects = finish(config, tmp_path / "run")
    edit(run, 0, lambda stored: stored["origins"].__setitem__(3, ["prompt", 0]))
    (wrong,) = provenance(config, run, subjects)
    assert str(wrong) == "population/000.json, candidate 3: expected a public source, found prompt 0"


def test_a_public_source_that_is_gone_is_told(make_config: Make, tmp_path: Path, public_file: Path) -> None:
    config = make_config()
    run, subjects = finish(config, tmp_path / "run")
    public_file.unlink()
    (wrong,) = provenance(config, run, subjects)
    assert wrong.file == "population/000.json"
    assert str(public_file) in wrong.actual


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (None, "expected a parent in the round before, found nothing"),
        (["public", 0], "expected a parent in the round before, found public 0"),
        (["kept", 99], "expected a parent that is there, found kept 99"),
        (["kept", -1], "expected a parent that is there, found kept -1"),
        (["again", 0], "expected the same text as its parent, found again 0"),
        (["variation", "unselected"], "expected a parent that was selected, found variation"),
    ],
)
def test_a_candidate_without_a_right_parent_is_found(
    origin: Any, words: str, make_config: Make, tmp_path: Path
) -> None:
    config = make_config("evolution.selection=rank")  # a quarter survives
    run, subjects = finish(config, tmp_path / "run")
    selected = run.selection(0)
    assert selected is not None
    if origin and origin[1] == "unselected":
        origin = ["variation", next(row for row in range(24) if row not in selected.survivors)]
    # The digest is over the texts: it stays right, the origin alone is wrong.
    edit(run, 1, lambda stored: stored["origins"].__setitem__(-1, origin))
    assert any(f"population/001.json, candidate 23: {words}" in line for line in messages(config, run, subjects))


def test_a_variation_does_not_change_its_label(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    run, _ = finish(config, tmp_path / "run")
    edit(run, 1, lambda stored: stored["candidates"].__setitem__(-1, ["other words", 1]))
    assert any("expected the label of its parent, found variation" in line for line in messages(config, run, {}))


def test_missing_rounds(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    run, subjects = finish(config, tmp_path / "run")
    edit(run, 0, lambda stored: stored["origins"].__setitem__(0, None))
    assert "population/000.json, candidate 0: expected a public source, found nothing" in messages(config, run, {})
    (run.folder / "selected" / "000.json").unlink()
    assert any("found nothing, as that round is missing" in line for line in messages(config, run, subjects))
    (run.folder / "population" / "001.json").unlink()
    assert any(
        line.startswith("population/001.json, digest") and line.endswith("found nothing")
        for line in messages(config, run, subjects)
    )


def test_where_a_candidate_comes_from_does_not_make_it_another(make_config: Make) -> None:
    assert Candidate("a", 0, Origin("kept", 3)) == Candidate("a", 0, Origin("variation", 1)) == Candidate("a")
    assert hash(Candidate("a", 0, Origin("kept", 3))) == hash(Candidate("a"))
