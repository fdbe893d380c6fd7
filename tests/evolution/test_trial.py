"""A generator is tried before the first release, and refused where almost nothing that it writes is usable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from pretext.config.settings import Config
from pretext.errors import EngineError, PretextError
from pretext.home import open_ledger
from pretext.jobs.run import synthesize
from pretext.lazy import Once
from pretext.models.engines.scripted import ScriptedEngine
from pretext.prompts import Prompt
from tests.support.runs import make_parts, reply

Make = Callable[..., Config]


def _count_releases() -> int:
    ledger = open_ledger()
    return sum(len(ledger.account(name).releases) for name in ledger.names())


def _write_usable(share: float) -> ScriptedEngine:
    """Make an engine of whose answers about this share is usable."""
    return ScriptedEngine(lambda prompt, rng: reply(prompt, rng) if rng.random() < share else "no")


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("share", [0.0, 0.01])
def test_run__a_generator_of_almost_nothing_usable__spends_nothing(
    make_config: Make, tmp_path: Path, rounds: int, share: float
) -> None:
    config, engine = make_config(f"privacy.rounds={rounds}"), _write_usable(share)
    with pytest.raises(EngineError, match="too short: "):
        synthesize(config, tmp_path / "run", make_parts(config, engine))
    assert _count_releases() == 0
    synthesize(config, tmp_path / "run", make_parts(config))
    assert _count_releases() == rounds


def test_run__a_generator_that_is_often_usable__is_not_refused(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    synthesize(config, tmp_path / "run", make_parts(config, _write_usable(0.4)))
    assert _count_releases() == 3


def test_run__a_variation_that_changes_nothing_usable_beside_a_good_engine__spends_nothing(
    make_config: Make, tmp_path: Path
) -> None:
    config = make_config()
    parts = replace(
        make_parts(config), variation=Once(lambda: lambda parents, pool, rng: [None if parents else ""] * len(parents))
    )
    with pytest.raises(EngineError, match="no answer: 64"):
        synthesize(config, tmp_path / "run", parts)
    assert _count_releases() == 0


def test_run__that_chooses_among_public_sets__tries_the_generator_before_that_release(
    make_config: Make, public_file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(f'{{"text": "a short note about subject {row}"}}\n' for row in range(200)))
    config = make_config("privacy.clients=60", "evolution.population=24")
    initial = config.initial.model_copy(update={"texts": None, "public_sets": (str(public_file), str(other))})
    config = config.model_copy(update={"initial": initial})
    with pytest.raises(EngineError):
        synthesize(config, tmp_path / "run", make_parts(config, _write_usable(0.0)))
    assert _count_releases() == 0


def test_resume__with_a_generator_that_fails_by_now__spends_no_further_round(make_config: Make, tmp_path: Path) -> None:
    config, calls = make_config(), count()

    def die(prompt: Prompt, rng: np.random.Generator) -> str | None:
        return reply(prompt, rng) if next(calls) < 17 else None

    with pytest.raises(PretextError):
        synthesize(config, tmp_path / "run", make_parts(config, ScriptedEngine(die)))
    spent = _count_releases()
    with pytest.raises(EngineError):
        synthesize(config, tmp_path / "run", make_parts(config, ScriptedEngine(die)))
    assert _count_releases() == spent == 1
