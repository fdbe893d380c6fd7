from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pretext.config.settings import Config
from pretext.jobs.run import synthesize
from pretext.jobs.timing import Meter
from pretext.lazy import Once
from pretext.models.engines import Sampling
from pretext.models.engines.scripted import ScriptedEngine
from pretext.prompts import Prompt
from pretext.run.folder import Run
from tests.support.runs import ACCOUNT, make_parts

Make = Callable[..., Config]


@pytest.fixture
def run(make_config: Make, tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", make_config(), ACCOUNT)


def test_opened_once() -> None:
    opened: list[int] = []
    once = Once(lambda: opened.append(1) or len(opened))  # type: ignore[func-returns-value]
    assert once.opened is None
    assert (once(), once(), once.opened) == (1, 1, 1)


def test_sums_over_calls_and_sittings(run: Run) -> None:
    engine = Once(lambda: ScriptedEngine(lambda prompt, rng: "three words here"))
    for sitting in (1, 2):
        meter = Meter(engine)
        with meter.persist(run):
            complete = engine().complete
            with meter.phase("writing"):
                complete([Prompt("two words")] * 2, Sampling(max_tokens=5))
        assert (meter.phases["writing"].read, meter.phases["writing"].written) == (4 * sitting, 6 * sitting)
    again = Meter(engine)
    with again.persist(run):
        assert again.phases == meter.phases


def test_a_phase_that_fails_counts_and_is_kept(run: Run) -> None:
    meter = Meter(Once(lambda: ScriptedEngine(lambda prompt, rng: None)))
    with pytest.raises(ZeroDivisionError), meter.persist(run), meter.phase("failing"):
        1 / 0  # noqa: B018
    assert run.timings()["failing"].seconds > 0


def test_a_run_times_public_work_only(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    phases = synthesize(config, tmp_path / "run", make_parts(config)).timings()
    assert set(phases) == {
        "initial population", "loading models", "trial", "embedding of candidates", "variations", "expansion",
    }  # fmt: skip
    assert phases["variations"].written > 0 and phases["expansion"].written > 0
    assert phases["embedding of candidates"].written == 0
