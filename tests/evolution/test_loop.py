"""Selection, lookahead and the loop."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pretext.config.settings import Config, Evolution
from pretext.errors import NoSignal
from pretext.evolution.loop import Steps, candidate_points, evolve
from pretext.evolution.selection import collect_seeds, select_survivors
from pretext.jobs.run import synthesize
from pretext.run.folder import Run
from pretext.run.records import Candidate
from tests.support.runs import HashEmbedder, make_parts, rows_of, write_rows

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


def test_lookahead_is_the_renormalized_mean_of_the_variations(make_config: Callable[..., Config]) -> None:
    config = make_config("evolution.lookahead=2")
    population = [Candidate("kernel driver"), Candidate("garden soup")]
    answers = iter([["kernel boot", None], ["kernel disk", None]])
    embed = HashEmbedder()
    steps = Steps(lambda screen: [], lambda *_: None, lambda: lambda *_: next(answers), lambda: embed)  # type: ignore[arg-type,return-value]
    points = candidate_points(config, 0, population, steps)
    mean = embed(["kernel boot", "kernel disk"]).sum(axis=0)
    np.testing.assert_allclose(points[0], mean / np.linalg.norm(mean), rtol=1e-5)
    # Every variation of the second one failed: it stands where its own text is.
    np.testing.assert_allclose(points[1], embed(["garden soup"])[0], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-5)


def test_lookahead_zero_is_the_text_itself(make_config: Callable[..., Config]) -> None:
    embed = HashEmbedder()
    steps = Steps(lambda screen: [], lambda *_: None, lambda: None, lambda: embed)  # type: ignore[arg-type,return-value]
    points = candidate_points(make_config(), 0, [Candidate("kernel driver")], steps)
    np.testing.assert_allclose(points, embed(["kernel driver"]))


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


def test_a_generator_that_only_fails_keeps_the_survivors(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config("evolution.kept_parents=0")
    run = Run.create(tmp_path / "run", config)
    noisy = np.arange(24.0)
    from pretext.evolution.selection import NoisyHistogram

    population = [Candidate(f"text number {row}") for row in range(24)]
    steps = Steps(
        lambda screen: population,
        lambda *_: NoisyHistogram(noisy, 1.0),
        lambda: lambda parents, pool, rng: [None] * len(parents),
        HashEmbedder,
    )
    seeds = evolve(config, run, steps)
    assert seeds
    assert {seed.text for seed in seeds} <= {candidate.text for candidate in population}


def test_what_is_dropped_on_the_way_to_the_first_population_is_kept(
    make_config: Callable[..., Config], tmp_path: Path, public_file: Path
) -> None:
    rows = [json.loads(line) for line in public_file.read_text().splitlines()]
    write_rows(public_file, [*rows, *rows[:5]])
    config = make_config()
    run = synthesize(config, tmp_path / "run", make_parts(config))
    assert run.load("population/000.json")["dropped"] == {"duplicate": 5}


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
    seeds = collect_seeds(config, run)
    assert {seed.text: seed.weight**2 for seed in seeds} == pytest.approx(heaviest)
    assert [seed.weight for seed in seeds] == sorted((seed.weight for seed in seeds), reverse=True)
