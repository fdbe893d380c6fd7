"""Texts at epsilon 0: nobody votes, and every prompt holds public text alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from comparison.baselines import expand_only, prompt_only

from pretext.api import Result
from pretext.config.settings import Config
from pretext.jobs.parts import Parts
from pretext.models.engines.scripted import ScriptedEngine
from pretext.prompts import Prompt
from tests.support.runs import make_parts, reply

EXAMPLES = ("how do i mount a disk", "my sound is gone again", "which printer works best")
prompts: list[str] = []


def listen(prompt: Prompt, rng: object) -> str:
    prompts.append(prompt.text)
    return reply(prompt, rng)  # type: ignore[arg-type]


@pytest.fixture
def parts(make_config: Callable[..., Config], private_file: Path) -> Parts:
    """The private file is gone: whoever opened it would fail."""
    parts = make_parts(make_config(), ScriptedEngine(listen))
    private_file.unlink()
    prompts.clear()
    return parts


def test_prompt_only_shows_the_description_and_the_invented_examples(
    make_config: Callable[..., Config], parts: Parts, tmp_path: Path
) -> None:
    run = prompt_only(make_config(), tmp_path / "run", parts, "Questions about computers", EXAMPLES)
    assert len(Result(run.folder).texts) == 30
    for prompt in prompts:
        assert "diverse original text samples (Questions about computers):" in prompt
        assert all(example in prompt for example in EXAMPLES)
    assert not set(EXAMPLES) & set(Result(run.folder).texts)
    assert prompt_only(make_config(), tmp_path / "run", parts, "Questions about computers", EXAMPLES).id == run.id


def test_expand_only_shows_the_initial_population_alone(
    make_config: Callable[..., Config], parts: Parts, tmp_path: Path, public_file: Path
) -> None:
    run = expand_only(make_config(), tmp_path / "run", parts)
    public = public_file.read_text()
    population = [candidate.text for candidate in run.population(0) or []]
    assert len(population) == 24
    assert all(text in public for text in population)
    assert all(sum(text in prompt for text in population) >= 3 for prompt in prompts)
    assert len(Result(run.folder).texts) == 30


def test_neither_makes_a_ledger_or_a_statement(
    make_config: Callable[..., Config], parts: Parts, tmp_path: Path, home: Path
) -> None:
    run = expand_only(make_config(), tmp_path / "run", parts)
    assert not (home / "ledger.sqlite").exists()
    assert not (run.folder / "privacy.json").exists()
