"""FreD inside the main job: it finds the source of the initial population within the run's own epsilon."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pretext.config.settings import Config
from pretext.errors import UsageError
from pretext.home import open_ledger
from pretext.jobs.fred import run_fred
from pretext.jobs.plan import make_plan
from pretext.jobs.run import synthesize
from pretext.statement.provenance import check_origins
from privacy import Budget, BudgetExceeded, epsilon
from tests.statement.test_provenance import edit
from tests.support.runs import WORDS, make_parts, rows_of, write_rows

Make = Callable[..., Config]


@pytest.fixture
def make_fred_config(make_config: Make, tmp_path: Path, private_file: Path) -> Make:
    """Configure a run that may choose between talk like the clients' and something else."""
    write_rows(private_file, rows_of(clients=600))
    rng = np.random.default_rng(1)
    foreign = ["haus", "garten", "suppe", "blume", "ofen", "tisch", "stuhl", "wand"]
    near = write_rows(tmp_path / "near.jsonl", [{"text": " ".join(rng.choice(WORDS, 7))} for _ in range(300)])
    far = write_rows(tmp_path / "far.jsonl", [{"text": " ".join(rng.choice(foreign, 7))} for _ in range(300)])

    def make(*overrides: str) -> Config:
        config = make_config("privacy.clients=600", "privacy.epsilon=8", *overrides)
        initial = config.initial.model_copy(update={"texts": None, "public_sets": (str(far), str(near))})
        return Config.model_validate(config.model_copy(update={"initial": initial}).model_dump())

    return make


def test_the_population_comes_from_the_nearest_public_set(make_fred_config: Make, tmp_path: Path) -> None:
    config = make_fred_config("privacy.rounds=2")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    population = run.population(0)
    assert population is not None
    assert len(population) == 24
    assert all(set(candidate.text.split()) <= set(WORDS) for candidate in population)
    statement = json.loads((run.folder / "privacy.json").read_text())
    assert statement["rounds"]["released"] == 2
    assert [release["label"].split("/")[1] for release in statement["releases"]] == ["fred", "votes", "votes"]
    assert 7.9 < statement["guarantee"]["epsilon"] <= 8
    assert run.load("ranking.json")["mixture"] == ["near"]


def test_public_sets_share__a_quarter__is_what_finding_costs(make_fred_config: Make, tmp_path: Path) -> None:
    config = make_fred_config("initial.public_sets_share=0.25")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    account = open_ledger().account("private")
    assert epsilon(account.releases[0].cost(account.relation), config.privacy.delta) == pytest.approx(2, abs=1e-3)
    assert account.spent_epsilon <= 8
    assert make_plan(config).epsilon == pytest.approx(account.spent_epsilon, abs=1e-6)
    assert run.load("ranking.json")["lines"][0]["public_set"] == "near"


def test_two_public_sets_in_equal_parts(make_fred_config: Make, tmp_path: Path) -> None:
    config = make_fred_config("initial.public_sets_used=2", "privacy.rounds=2")
    population = synthesize(config, tmp_path / "run", make_parts(config)).population(0)
    assert population is not None
    near = sum(set(candidate.text.split()) <= set(WORDS) for candidate in population)
    assert near == 12


def test_check_origins__a_text_of_no_public_set__is_reported(make_fred_config: Make, tmp_path: Path) -> None:
    config = make_fred_config("privacy.rounds=2")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    assert list(check_origins(run, config.privacy.rounds, config.initial, config.screening.max_words)) == []
    edit(run, 0, lambda population: population["candidates"].__setitem__(3, ["what the server knows of somebody", 0]))
    assert "population/000.json" in [
        difference.file
        for difference in check_origins(run, config.privacy.rounds, config.initial, config.screening.max_words)
    ]


def test_a_kill_after_the_release_replays_it(
    make_fred_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_fred_config("privacy.rounds=2")

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pretext.jobs.run.rank_sets", interrupt)
        with pytest.raises(KeyboardInterrupt):
            synthesize(config, tmp_path / "run", make_parts(config))
    first = open_ledger().account("private").releases
    assert len(first) == 1
    synthesize(config, tmp_path / "run", make_parts(config))
    resumed = open_ledger().account("private").releases
    assert len(resumed) == 3
    np.testing.assert_array_equal(first[0].noisy, resumed[0].noisy)


def test_a_budget_that_holds_the_rounds_alone_is_refused_before_anything_is_drawn(
    make_fred_config: Make, tmp_path: Path
) -> None:
    config = make_fred_config("privacy.budget_epsilon=7.5")
    with pytest.raises(BudgetExceeded):
        synthesize(config, tmp_path / "run", make_parts(config))
    assert not open_ledger().account("private").releases
    open_ledger().set_budget("private", Budget(8.0, config.privacy.delta))
    assert synthesize(config, tmp_path / "run", make_parts(config)).population(0)


def test_it_composes_with_a_release_of_the_command(make_fred_config: Make, tmp_path: Path) -> None:
    config = make_fred_config("privacy.budget_epsilon=8")
    run_fred(config, tmp_path / "fred", make_parts(config))
    with pytest.raises(BudgetExceeded, match="left is 0"):
        synthesize(config, tmp_path / "run", make_parts(config))


def test_wrong_settings_are_refused_before_a_folder_is_made(
    make_fred_config: Make, make_config: Make, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="initial"):
        make_config('initial.public_sets=["a.jsonl", "b.jsonl"]')
    config = make_fred_config()
    unknown = config.model_copy(update={"privacy": config.privacy.model_copy(update={"clients": None})})
    with pytest.raises(UsageError, match="--clients"):
        synthesize(unknown, tmp_path / "run", make_parts(unknown))
    single = config.initial.model_copy(update={"public_sets": config.initial.public_sets[:1]})
    with pytest.raises(UsageError, match="--public-set"):
        synthesize(config.model_copy(update={"initial": single}), tmp_path / "run", make_parts(config))
    assert not (tmp_path / "run").exists()
