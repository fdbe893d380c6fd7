from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pretext.clients.federation import LocalFederation
from pretext.clients.voting import Clients
from pretext.config.settings import Config
from pretext.errors import EngineError
from pretext.jobs.forecast import Forecast, make_forecast
from pretext.jobs.run import synthesize
from pretext.models.engines.scripted import ScriptedEngine
from pretext.run.records import Phase
from tests.support import tiny
from tests.support.runs import make_parts

Make = Callable[..., Config]


@pytest.mark.parametrize(
    "settings",
    [
        ["evolution.population=100", "expansion.texts=150"],
        ["variation.kind=rewrite", "evolution.lookahead=2", "evolution.population=80"],
        ["initial.prompts=['Notes.']", "evolution.population=90", "evolution.kept_parents=0"],
    ],
    ids=["in-context", "lookahead", "prompts"],
)  # fmt: skip
def test_tokens_within_a_factor_of_two(make_config: Make, tmp_path: Path, settings: list[str]) -> None:
    config = make_config(*settings)
    foretold = make_forecast(config, make_parts(config)).phases
    taken = synthesize(config, tmp_path / "run", make_parts(config)).timings()
    assert set(foretold) == set(taken) - {"trial"}
    for name, phase in foretold.items():
        assert phase.written <= 2 * taken[name].written and taken[name].written <= 2 * phase.written, name
        assert phase.read <= 2 * taken[name].read and taken[name].read <= 2 * phase.read, name


def test_forecast__of_a_profile__knows_every_phase_and_its_tokens(make_config: Make, tmp_path: Path) -> None:
    sizes = ["prompted_texts=120", "guided_texts=240", "adapted_texts=200", "features=200", "clusters=8"]
    config = make_config(
        *("preset=profile", "privacy.rounds=1", "privacy.epsilon=200", "initial.prompts=['short lists of words']"),
        *("adapt.method=none", "screening.min_words=1", "privacy.clients=40", *(f"profile.{size}" for size in sizes)),
    )
    foretold = make_forecast(config, make_parts(config)).phases
    taken = synthesize(config, tmp_path / "run", make_parts(config)).timings()
    assert set(taken) - set(foretold) <= {"trial", "weighing"}
    for name in ("initial population", "guided texts"):
        assert 0 < foretold[name].written <= 2 * taken[name].written <= 4 * foretold[name].written, name
    assert foretold["clients"].seconds > 0
    doubled = config.model_copy(update={"profile": config.profile.model_copy(update={"guided_texts": 480})})
    more = make_forecast(doubled, make_parts(doubled)).phases["guided texts"]
    assert more.written == pytest.approx(2 * foretold["guided texts"].written, rel=0.01)


@pytest.mark.slow
def test_forecast__of_an_adaptation__grows_with_its_passes(make_config: Make, tmp_path: Path) -> None:
    generator = str(tiny.build(tmp_path / "generator"))
    seconds = {}
    for passes in (1, 100):
        config = make_config(
            *("preset=profile", "privacy.rounds=1", "initial.prompts=['short lists of words']"),
            *(f"models.generator={generator}", f"adapt.passes={passes}", "profile.adapted_texts=100"),
        )
        seconds[passes] = make_forecast(config, make_parts(config)).phases["adaptation"].seconds
    assert 0 < 10 * seconds[1] < seconds[100]


def test_work_grows_with_the_settings(make_config: Make) -> None:
    def written(phase: str, *settings: str) -> int:
        config = make_config("evolution.population=64", *settings)
        return make_forecast(config, make_parts(config)).phases[phase].written

    assert written("variations", "privacy.rounds=5") == pytest.approx(2 * written("variations", "privacy.rounds=3"))
    assert written("expansion", "expansion.texts=3000") == pytest.approx(
        10 * written("expansion", "expansion.texts=300")
    )


def test_nothing_private_is_touched(make_config: Make, private_file: Path) -> None:
    config = make_config()
    private_file.unlink()

    def untouchable() -> Clients:
        raise AssertionError("a forecast must not open the clients")

    make_forecast(config, replace(make_parts(config), federation=LocalFederation(untouchable)))


def test_the_clients_side_is_foretold_where_their_number_is_public(make_config: Make) -> None:
    unknown, few, many = (
        make_config(*settings) for settings in ([], ["privacy.clients=10"], ["privacy.clients=1000000"])
    )
    assert "clients" not in make_forecast(unknown, make_parts(unknown)).phases
    small, large = make_forecast(few, make_parts(few)), make_forecast(many, make_parts(many))
    assert 0 < small.phases["clients"].seconds < large.phases["clients"].seconds
    assert large.memory - small.memory > 8e6 * 32 * 4


def test_candidates_stand_in_for_the_public_texts(make_config: Make, public_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(public_file.read_text(encoding="utf-8"), encoding="utf-8")
    texts = make_config()
    initial = texts.initial.model_copy(update={"texts": None, "public_sets": (str(public_file), str(other))})
    config = texts.model_copy(update={"initial": initial})
    plain, choosing = make_forecast(texts, make_parts(texts)).phases, make_forecast(config, make_parts(config)).phases
    assert set(choosing) == {*plain, "finding public sets"}
    assert choosing["variations"].written == pytest.approx(plain["variations"].written, rel=0.2)


def test_an_engine_that_fails_is_told_as_in_the_run(make_config: Make) -> None:
    config = make_config("initial.prompts=['Notes.']", "initial.texts=''", "initial.prompted_share=1")
    with pytest.raises(EngineError):
        make_forecast(config, make_parts(config, ScriptedEngine(lambda prompt, rng: "")))


def test_in_words() -> None:
    phases = {"variations": Phase(7300, 1000, 2000), "expansion": Phase(50, 10, 20), "clients": Phase(0.2)}
    words = Forecast(phases, 3 * 2**30).describe()
    assert "about 2 h 3 min: variations 2 h 2 min, expansion 50 s\n" in words
    assert "1,010 read and 2,020 written" in words and "3.0 GiB" in words
    assert "state privacy.clients" in Forecast({"expansion": Phase(1)}, 1).describe()
