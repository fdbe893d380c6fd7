"""The statement against what was really drawn: noise and bound as the mechanism saw them, costs computed apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import opendp.prelude as dp
import pytest
from dp_accounting.gaussian_mechanism import get_epsilon_gaussian
from numpy.typing import NDArray

from pretext.config.settings import Config
from pretext.home import open_ledger
from pretext.jobs.run import synthesize
from pretext.run.folder import Run
from privacy import Bounded, DiscreteGaussian
from tests.support.runs import make_parts

Draws = list[tuple[float, Bounded]]


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Draws:
    """Every draw: the sigma that the noise library is given, and the value below the noise."""
    seen: Draws = []
    draw, make = DiscreteGaussian.draw, dp.m.make_gaussian
    sigmas: list[float] = []

    def make_gaussian(domain: object, metric: object, sigma: float) -> object:
        sigmas.append(sigma)
        return make(domain, metric, sigma)

    def record(self: DiscreteGaussian, bounded: Bounded) -> NDArray[np.int64]:
        noisy = draw(self, bounded)
        seen.append((sigmas.pop(), bounded))
        return noisy

    monkeypatch.setattr(dp.m, "make_gaussian", make_gaussian)
    monkeypatch.setattr(DiscreteGaussian, "draw", record)
    return seen


def true_epsilon(draws: Draws, relation: str, delta: float) -> float:
    """Add up the continuous Gaussian costs of the draws; the program may state more, never less."""
    factor = {"add/remove": 1, "replace-one": 2}[relation]  # of a squared norm of votes
    mu_squared = math.fsum(factor * bounded.norm_squared / sigma**2 for sigma, bounded in draws)
    return float(get_epsilon_gaussian(1 / math.sqrt(mu_squared), delta))


@pytest.mark.parametrize("relation", ["add/remove", "replace-one"])
def test_statement__of_a_run__states_what_was_drawn(
    relation: str, make_config: Callable[..., Config], draws: Draws, tmp_path: Path
) -> None:
    other = {"add/remove": "replace-one", "replace-one": "add/remove"}[relation]
    config = make_config(f"privacy.relation={relation}", "privacy.epsilon=4", "privacy.budget_epsilon=12")
    statement = synthesize(config, tmp_path / "run", make_parts(config)).require_statement()
    assert len(draws) == len(statement.releases) == 3
    for stated, name in ((statement.guarantee, relation), (statement.other_relation, other)):
        assert (stated.unit, stated.relation, stated.delta) == ("client", name, 1e-3)
        true = true_epsilon(draws, name, 1e-3)
        assert true * (1 - 1e-9) <= stated.epsilon <= true * (1 + 1e-6)
    assert statement.guarantee.epsilon <= 4
    for release, (sigma, bounded) in zip(statement.releases, draws, strict=True):
        assert release.noise_standard_deviation == pytest.approx(sigma * bounded.grid)
        assert release.coordinates == bounded.dimension
    # A second run is not in its statement, but in the dataset's account.
    second = synthesize(config, tmp_path / "second", make_parts(config)).require_statement()
    assert second.guarantee.epsilon == pytest.approx(true_epsilon(draws[3:], relation, 1e-3))
    assert second.dataset.spent_epsilon == pytest.approx(true_epsilon(draws, relation, 1e-3))
    assert open_ledger().account("private").spent_epsilon >= true_epsilon(draws, relation, 1e-3) * (1 - 1e-9)


def test_statement__without_a_client_column__protects_records(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config("privacy.rounds=1")
    records = config.model_copy(update={"data": config.data.model_copy(update={"client_column": None})})
    statement = synthesize(records, tmp_path / "run", make_parts(records)).require_statement()
    assert (statement.guarantee.unit, statement.unit.name, statement.dataset.unit) == ("record",) * 3
    assert statement.unit.column is None


def test_statement__of_an_unfinished_run__states_what_was_planned(
    make_config: Callable[..., Config], draws: Draws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a run stops may depend on its releases, so those alone bound nothing."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    config = make_config("privacy.epsilon=4")
    monkeypatch.setattr("pretext.evolution.loop.next_population", interrupt)
    with pytest.raises(KeyboardInterrupt):
        synthesize(config, tmp_path / "run", make_parts(config))
    statement = Run.open(tmp_path / "run")[0].require_statement()
    assert len(draws) == 1
    assert 3.99 < statement.guarantee.epsilon <= 4
    assert statement.reading_epsilon == pytest.approx(true_epsilon(draws, "add/remove", 1e-3))
