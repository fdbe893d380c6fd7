from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretext.calibration import Calibration
from pretext.clients.voting import Ballot, Clients, VoteRule
from pretext.config.resolve import resolve
from pretext.config.settings import Config
from pretext.errors import UsageError
from pretext.jobs.plan import make_plan, max_votes_per_client
from pretext.vectors import normalize_rows
from privacy import InvalidParameter, epsilon

PAPER = ["privacy.epsilon=1.29", "privacy.delta=3e-6", "privacy.rounds=11"]


def paper(*overrides: str, **privacy: Any) -> Config:
    base = {"initial": {"prompts": ["Short notes."]}, "privacy": privacy, "data": {"client_column": "id"}}
    return resolve(overrides=[*PAPER, *overrides], defaults=base)


def test_the_paper_s_own_setting_costs_what_the_tables_say() -> None:
    planned = make_plan(resolve(overrides=["preset=icml2024"]))
    assert planned.noise_multiplier == 11.3
    assert planned.epsilon == pytest.approx(1.18896, abs=5e-6)
    # What the paper prints; the reference value has four digits.
    assert planned.epsilon_rdp == pytest.approx(1.2875, abs=1.5e-4)
    assert planned.sigma == pytest.approx(90.4, abs=1e-9)
    assert planned.epsilon_per_round < planned.epsilon
    loose = make_plan(resolve(overrides=["preset=icml2024", "privacy.noise_multiplier=2.31"]))
    assert loose.epsilon == pytest.approx(7.08012, abs=5e-6)
    assert loose.epsilon_rdp == pytest.approx(7.5790, abs=5e-4)


@pytest.mark.parametrize(
    ("relation", "target", "sigma"),
    [
        ("add/remove", 1.29, 29.7),
        ("replace-one", 1.29, 41.9),
        ("add/remove", 7.58, 6.17),
        ("replace-one", 7.58, 8.72),
    ],
)
def test_noise_per_candidate_at_the_default_bound(relation: str, target: float, sigma: float) -> None:
    planned = make_plan(paper(f"privacy.relation={relation}", f"privacy.epsilon={target}"))
    assert planned.sigma == pytest.approx(sigma, rel=2.5e-3)


@pytest.mark.parametrize("target", [0.01, 0.5, 1.0, 3.0, 7.0, 15.0])
def test_calibration_never_spends_more_than_it_was_given(target: float) -> None:
    config = paper(f"privacy.epsilon={target}")
    spent = epsilon(Calibration.of(config).rounds_cost(), config.privacy.delta)
    assert 0.999 * target < spent <= target == pytest.approx(make_plan(config).epsilon, rel=1e-3)


@pytest.mark.parametrize(("target", "expected"), [(0.5, 25.14), (1.0, 13.25), (3.0, 4.883), (7.0, 2.332)])
def test_golden_multipliers(target: float, expected: float) -> None:
    assert Calibration.of(paper(f"privacy.epsilon={target}")).noise_multiplier == pytest.approx(expected, rel=3e-4)


def test_a_target_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(UsageError):
        make_plan(paper("privacy.delta=1e-300"))
    with pytest.raises(InvalidParameter):
        make_plan(resolve(settings={"initial": {"prompts": ["Short notes."]}, "privacy": {"noise_multiplier": 1e-30}}))


@pytest.mark.parametrize("norm", ["1e-200", "1e200"])
def test_an_absurd_bound_is_refused_in_a_sentence(norm: str) -> None:
    with pytest.raises((UsageError, InvalidParameter)):
        make_plan(paper(f"privacy.vote_norm={norm}"))


def warned(config: Config, words: str) -> bool:
    return any(words in warning for warning in make_plan(config).warnings)


@pytest.mark.parametrize(("epsilon", "delta"), [(50, 1e-6), (1, 1e-12)])
def test_warnings__less_than_the_epsilon_that_was_asked_for__is_told(epsilon: float, delta: float) -> None:
    """Above about 20 none is enforced; at a tiny delta the slack of many candidates drives the noise."""
    many = "evolution.population=1000000"
    warnings = make_plan(paper(f"privacy.epsilon={epsilon}", f"privacy.delta={delta}", many)).warnings
    assert sum("Of epsilon" in warning for warning in warnings) == 1
    assert not warned(paper("privacy.epsilon=1", "privacy.delta=1e-6"), "Of epsilon")


def with_noise(multiplier: float, delta: float, population: int = 512) -> Config:
    return resolve(
        settings={
            "initial": {"prompts": ["Short notes."]},
            "privacy": {"noise_multiplier": multiplier, "delta": delta, "rounds": 8},
            "evolution": {"population": population},
        }
    )


@pytest.mark.parametrize(("multiplier", "population"), [(5.0, 1_000_000), (2.0, 512), (0.5, 512)])
def test_warnings__of_a_configured_noise_whose_grid_decides__are_told(multiplier: float, population: int) -> None:
    assert warned(with_noise(multiplier, 1e-12, population), "no budget holds")
    assert not warned(with_noise(20, 1e-6), "grid")


def test_warnings__of_a_configured_noise_whose_grid_costs_much__name_the_budget() -> None:
    assert warned(with_noise(2.0, 1e-9), "takes a budget")


def test_a_missing_client_column_is_warned_of() -> None:
    named = paper(clients=1250)
    nameless = resolve(overrides=PAPER, settings={"initial": {"prompts": ["x"]}})
    assert warned(nameless, "No client column") and not warned(named, "No client column")


def test_a_delta_above_one_over_the_clients_is_warned_of() -> None:
    assert warned(paper("privacy.delta=1e-3", clients=1250), "above one over the number of clients")
    assert not warned(paper(clients=1250), "above one over")
    assert warned(paper(), "number of clients is not stated")


def test_a_drowning_signal_is_warned_of() -> None:
    drowned = make_plan(paper(clients=1250))
    assert drowned.votes_per_candidate == pytest.approx(1250 * 8 / 512)
    assert any("signal may drown" in warning for warning in drowned.warnings)
    assert make_plan(paper("privacy.delta=1e-7", clients=1_000_000)).warnings == ()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("texts", "nearest", "norm", "population"), [(8, 1, None, 64), (3, 4, 6.0, 64), (8, 2, 1.0, 5)]
)
def test_no_client_gives_more_votes_than_planned(
    texts: int, nearest: int, norm: float | None, population: int, normalize: bool
) -> None:
    """And one whose texts choose as many candidates as they can gives all of them."""
    privacy = {"epsilon": 1, "max_texts_per_client": texts, "normalize_votes": normalize}
    config = resolve(
        settings={
            "privacy": privacy if norm is None else privacy | {"vote_norm": norm},
            "initial": {"prompts": ["x"]},
            "evolution": {"population": population, "nearest": nearest},
        }
    )
    rule = VoteRule(nearest, config.privacy.norm_squared, normalize)
    rows = np.random.default_rng(0).standard_normal((texts, population)).astype(np.float32)
    ballot = Ballot(np.eye(population, dtype=np.float32), np.zeros(population, np.int64))
    spread = np.zeros((texts, population), np.float32)
    for text in range(texts):
        spread[text, (nearest * text + np.arange(nearest)) % population] = 1
    votes = []
    for embedded in (normalize_rows(rows), normalize_rows(np.tile(rows[:1], (texts, 1))), normalize_rows(spread)):
        bounded = Clients(embedded, np.zeros(texts, np.int64), np.zeros(texts, np.int64)).vote(ballot, rule)
        votes.append(float(bounded.value.sum()) * bounded.grid)
    assert max(votes) <= max_votes_per_client(config.privacy, config.evolution)
    if texts * nearest <= population:
        assert votes[2] == pytest.approx(max_votes_per_client(config.privacy, config.evolution))


def test_tokens_count_every_round() -> None:
    config = paper("evolution.population=10", "evolution.lookahead=2", "expansion.texts=3", "variation.max_tokens=5")
    # 10 prompted + 10 new candidates in 10 rounds + 20 lookahead texts in 11, and three texts of 64 tokens.
    assert make_plan(config).tokens == (10 + 10 * 10 + 20 * 11) * 5 + 3 * 64


def test_nothing_private_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_plan(paper(f"data.path={tmp_path / 'nowhere' / 'private.csv'}")).sigma > 0
    existing = tmp_path / "private.csv"
    existing.write_text("text,id\nhello there,1\n", encoding="utf-8")
    existing.chmod(0)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the private file was opened")

    monkeypatch.setattr("pretext.tables.read_columns", refuse)
    monkeypatch.setattr("pathlib.Path.open", refuse)
    assert make_plan(paper(f"data.path={existing}")).sigma > 0


@pytest.mark.parametrize(("epsilon", "delta", "warned"), [(50, 1e-6, True), (4, 1e-6, False)])
def test_plan__an_epsilon_that_is_not_used__is_named(epsilon: float, delta: float, warned: bool) -> None:
    config = resolve(
        settings={
            "privacy": {"epsilon": epsilon, "delta": delta},
            "data": {"client_column": "c"},
            "initial": {"prompts": ["a"]},
        }
    )
    assert any(f"epsilon {epsilon:g}" in warning for warning in make_plan(config).warnings) is warned
