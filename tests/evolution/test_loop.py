"""Selection, lookahead and the loop."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pretext.clients.voting import VoteRule
from pretext.config.settings import Config, Evolution, Screening
from pretext.errors import EngineError, ModelError, NoSignal
from pretext.evolution.loop import candidate_points, evolve
from pretext.evolution.releases import RoundReleases
from pretext.evolution.selection import collect_seeds, select_survivors
from pretext.jobs.run import synthesize
from pretext.run.folder import Run
from pretext.run.records import Candidate
from privacy import Budget, BudgetExceeded, DiscreteGaussian, Ledger, Relation, Unit
from tests.support.fakes import FakeFederation, FakeModels
from tests.support.runs import ACCOUNT, HashEmbedder, make_parts, rows_of, write_rows

histograms = hnp.arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e6, 1e6))


@given(histograms, st.floats(1e-3, 1e3), st.floats(0, 5), st.sampled_from(["multinomial", "rank"]))
def test_selection_is_never_nan_and_parents_are_survivors(
    noisy: np.ndarray, sigma: float, threshold: float, method: str
) -> None:
    evolution = Evolution.model_validate({"selection": method, "population": 17, "threshold": threshold})
    survivors, weights, parents = select_survivors(noisy, sigma, evolution, np.random.default_rng(0))
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert set(parents) <= set(survivors)
    assert len(parents) == (17 if survivors.size else 0)
    assert (noisy[survivors] > threshold * sigma).all()
    assert (np.diff(weights) <= 0).all()


def test_multinomial_draws_in_proportion_to_the_excess() -> None:
    noisy = np.array([10.0, 2.0, 4.0, -5.0])
    evolution = Evolution(selection="multinomial", population=30_000, threshold=2.0)
    survivors, weights, parents = select_survivors(noisy, 1.0, evolution, np.random.default_rng(0))
    assert survivors.tolist() == [0, 2]
    assert weights.tolist() == [8.0, 2.0]
    # False alarm below 1e-6: the share's standard deviation is 0.0023.
    assert abs(np.mean(parents == 0) - 0.8) < 0.0125


def test_rank_keeps_the_heaviest_share_and_takes_turns() -> None:
    evolution = Evolution(selection="rank", survivors=0.5, population=4, threshold=0.0)
    survivors, _, parents = select_survivors(np.array([1.0, 9.0, 5.0, 7.0]), 0.1, evolution, np.random.default_rng(0))
    assert survivors.tolist() == [1, 3]
    assert parents.tolist() == [1, 3, 1, 3]


def test_lookahead_is_the_renormalized_mean_of_the_variations() -> None:
    population = [Candidate("kernel driver"), Candidate("garden soup")]
    answers: Iterator[list[str | None]] = iter([["kernel boot", None], ["kernel disk", None]])
    models = FakeModels(lambda parents: next(answers))
    points = candidate_points(0, population, models, Evolution(lookahead=2))
    mean = models.embed(["kernel boot", "kernel disk"]).sum(axis=0)
    np.testing.assert_allclose(points[0], mean / np.linalg.norm(mean), rtol=1e-5)
    # Every variation of the second one failed: it stands where its own text is.
    np.testing.assert_allclose(points[1], models.embed(["garden soup"])[0], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-5)


def test_lookahead_zero_is_the_text_itself() -> None:
    points = candidate_points(0, [Candidate("kernel driver")], FakeModels(), Evolution())
    np.testing.assert_allclose(points, HashEmbedder()(["kernel driver"]))


@dataclass
class World:
    """A loop over fakes, with a real ledger and a real run folder."""

    run: Run
    ledger: Ledger
    models: FakeModels
    federation: FakeFederation
    population: list[Candidate]

    def evolve(self, *, rounds: int = 3, **evolution: Any) -> None:
        relation = Relation.ADD_REMOVE
        mechanism = DiscreteGaussian.for_sum(2.0, Fraction(1), relation)
        evolve(
            self.run,
            self.population,
            RoundReleases(self.ledger, "fake", self.run, "votes", mechanism, relation),
            self.federation,
            self.models,
            rounds=rounds,
            rule=VoteRule(1, Fraction(1), normalize=False),
            evolution=Evolution(population=len(self.population), threshold=0.5, **evolution),
            screening=Screening(),
        )


@pytest.fixture
def world(make_config: Callable[..., Config], tmp_path: Path) -> World:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.register("fake", "memory:fake", Unit(None), Relation.ADD_REMOVE, Budget(15.0, 1e-6), confirmed=False)
    run = Run.create(tmp_path / "run", make_config(), ACCOUNT)
    population = run.save_population(0, [Candidate(f"text number {row}") for row in range(8)])
    return World(run, ledger, FakeModels(), FakeFederation(), population)


def test_evolve__each_round__asks_the_clients_once_with_the_models_open(world: World) -> None:
    world.evolve(rounds=3)
    assert (len(world.federation.ballots), world.models.opened) == (3, 3)
    assert len(world.ledger.account("fake").releases) == 3
    assert [world.run.selection(number) is not None for number in range(4)] == [True, True, True, False]
    assert world.run.population(2) is not None and world.run.population(3) is None


def test_evolve__again__replays_and_asks_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.evolve(rounds=2)
    digests = [path.read_bytes() for path in sorted(world.run.folder.glob("*/*"))]
    caplog.clear()
    with caplog.at_level(logging.INFO, "pretext"):
        world.evolve(rounds=2)
    assert not caplog.records, "a round is reported once, when it is selected"
    assert (len(world.federation.ballots), world.models.opened) == (2, 2)
    assert [path.read_bytes() for path in sorted(world.run.folder.glob("*/*"))] == digests


def test_evolve__with_a_model_that_cannot_be_loaded__spends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ModelError("no such model")

    monkeypatch.setattr(world.models, "open_all", fail)
    with pytest.raises(ModelError):
        world.evolve()
    assert not world.federation.ballots and not world.ledger.account("fake").releases


def test_evolve__over_the_budget__draws_nothing(world: World) -> None:
    world.ledger.set_budget("fake", Budget(1e-3, 1e-6))
    with pytest.raises(BudgetExceeded):
        world.evolve()
    assert not world.ledger.account("fake").releases and world.run.selection(0) is None


def test_votes_move_the_population_toward_the_clients(
    make_config: Callable[..., Config], tmp_path: Path, private_file: Path
) -> None:
    """At a generous epsilon the seeds are nearer to the private texts than the public start was."""
    write_rows(private_file, rows_of(clients=1000))
    config = make_config("privacy.rounds=4", "evolution.population=60")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    private = HashEmbedder()(["kernel driver screen boot", "garden soup recipe flower"])

    def nearness(texts: list[str]) -> float:
        return float((HashEmbedder()(texts) @ private.T).max(axis=1).mean())

    start = run.population(0)
    assert start is not None
    seeds = (run.folder / "seeds.jsonl").read_text().splitlines()
    assert nearness(seeds[:10]) > nearness([candidate.text for candidate in start]) + 0.05


def test_a_drowned_round_is_told_in_a_sentence(
    make_config: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config("privacy.epsilon=0.01", "evolution.threshold=6")
    with caplog.at_level(logging.WARNING, "pretext"), pytest.raises(NoSignal, match="larger epsilon"):
        synthesize(config, tmp_path / "run", make_parts(config))
    assert "no candidate got more noisy votes than the threshold" in caplog.text
    assert (tmp_path / "run" / "privacy.json").exists()


@pytest.mark.parametrize("answer", [None, "no", "the very same text"])
def test_evolve__a_generator_that_fails_after_a_round__stops_before_the_next_release(
    world: World, answer: str | None
) -> None:
    vary = world.models.varies
    world.models.varies = lambda parents: [answer] * len(parents)
    (world.run.folder / "population/000.json").unlink(missing_ok=True)
    world.population = world.run.save_population(0, [Candidate(f"text number {row}") for row in range(40)])
    with pytest.raises(EngineError, match="almost nothing usable"):
        world.evolve(kept_parents=0, selection="rank", survivors=1.0)
    assert len(world.ledger.account("fake").releases) == 1 and world.run.population(1) is None
    world.models.varies = vary
    world.evolve(kept_parents=0, selection="rank", survivors=1.0)
    assert len(world.ledger.account("fake").releases) == 3


def test_evolve__where_all_variations_are_known__goes_on_with_the_survivors(world: World) -> None:
    world.models.varies = lambda parents: [parent.text for parent in parents]
    world.evolve(kept_parents=0.9)
    assert [len(world.run.population(number) or ()) > 1 for number in (1, 2)] == [True, True]


def test_what_is_dropped_on_the_way_to_the_first_population_is_kept(
    make_config: Callable[..., Config], tmp_path: Path, public_file: Path
) -> None:
    rows = [json.loads(line) for line in public_file.read_text().splitlines()]
    write_rows(public_file, [*rows, *rows[:5]])
    config = make_config()
    run = synthesize(config, tmp_path / "run", make_parts(config))
    assert run.drop_counts(0) == {"duplicate": 5}


def test_labels_run_through_to_the_seeds(
    make_config: Callable[..., Config], tmp_path: Path, private_file: Path
) -> None:
    write_rows(private_file, rows_of(label=True))
    config = make_config("data.label_column=label", "data.labels=['computers', 'home']", "evolution.threshold=0")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    rows = [json.loads(line) for line in (run.folder / "synthetic.jsonl").read_text().splitlines()]
    assert len(rows) == 30
    assert {row["label"] for row in rows} == {"computers", "home"}


def test_seeds_come_from_the_seed_rounds_and_are_shown_by_a_power_of_their_votes(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config("evolution.seed_power=0.5", "evolution.seeds_from_round=1")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    heaviest: dict[str, float] = {}
    for number in (1, 2):
        selected, population = run.selection(number), run.population(number)
        assert selected is not None and population is not None
        for row, weight in zip(selected.survivors, selected.weights, strict=True):
            heaviest[population[row].text] = max(weight, heaviest.get(population[row].text, 0.0))
    seeds = collect_seeds(run, config.seed_rounds, config.evolution.seed_power)
    assert {seed.text: seed.weight**2 for seed in seeds} == pytest.approx(heaviest)
    assert [seed.weight for seed in seeds] == sorted((seed.weight for seed in seeds), reverse=True)
