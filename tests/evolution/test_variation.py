from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pretext.config.settings import Config
from pretext.evolution.variation import Variation
from pretext.jobs.parts import open_variation_of
from pretext.models.engines import Engine, Sampling, Usage, ignore_progress
from pretext.models.engines.scripted import ScriptedEngine
from pretext.prompts import HEADER, Prompt
from pretext.run.records import Candidate

Make = Callable[..., Config]


class Listening:
    """A generator that remembers what it was asked, and answers nothing to a prompt that holds `bad`."""

    usage = Usage()

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self.samplings: list[Sampling] = []

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, advance=ignore_progress) -> list[str | None]:
        self.prompts += prompts
        self.samplings.append(sampling)
        return [None if "bad" in prompt.text else f" new \n\n{HEADER} 9\nrubbish" for prompt in prompts]


def prompted(config: Config, engine: Engine) -> Variation:
    return open_variation_of(config, lambda: engine)


POOL = [Candidate(f"{'xy'[number % 2]} text {number}", number % 2) for number in range(10)]


def samples(prompt: Prompt) -> list[str]:
    return [part.split("\n", 1)[1].strip() for part in prompt.text.split(HEADER)[1:]]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("examples", [1, 3, 20])
def test_in_context_shows_the_parent_last(make_config: Make, chat: bool, examples: int) -> None:
    config = make_config(
        f"variation.examples={examples}",
        f"models.prompt_format={'chat' if chat else 'base'}",
        "data.label_column=kind",
        "data.labels=['ex', 'why']",
    )
    engine = Listening()
    parents = [POOL[3], POOL[4], Candidate("y parent out of the pool", 1)]
    assert open_variation_of(config, lambda: engine)(parents, POOL, np.random.default_rng(0)) == ["new"] * 3
    for parent, prompt in zip(parents, engine.prompts, strict=True):
        shown = [sample for sample in samples(prompt) if sample]
        assert shown[-1] == parent.text and shown.count(parent.text) == 1
        assert all(sample[0] == parent.text[0] for sample in shown)  # examples of its own label
        assert len(shown) <= examples and (len(shown) == examples or examples == 20)
        assert f" ({['ex', 'why'][parent.label]})" in prompt.text and prompt.chat is chat


@pytest.mark.parametrize("kind", ["in-context", "rewrite"])
def test_a_single_description_stands_in_every_prompt(make_config: Make, kind: str) -> None:
    for prompts, is_described in ((["Notes of a nurse."], True), (["Notes.", "Other notes."], False)):
        engine = Listening()
        config = make_config(f"variation.kind={kind}", f"initial.prompts={prompts}")
        open_variation_of(config, lambda engine=engine: engine)(POOL[:3], POOL, np.random.default_rng(0))
        assert [" (Notes of a nurse)" in prompt.text for prompt in engine.prompts] == [is_described] * 3


def test_a_parent_alone_is_its_own_example(make_config: Make) -> None:
    engine = Listening()
    prompted(make_config(), engine)([Candidate("lonely text")], [], np.random.default_rng(0))
    assert [sample for sample in samples(engine.prompts[0]) if sample] == ["lonely text"]


def test_rewrite_shows_the_parent_alone(make_config: Make) -> None:
    engine = Listening()
    prompted(make_config("variation.kind=rewrite"), engine)([POOL[0]], POOL, np.random.default_rng(0))
    assert [sum(candidate.text in prompt.text for candidate in POOL) for prompt in engine.prompts] == [1]


def test_invented_examples_come_first_and_the_parent_last(make_config: Make) -> None:
    engine = Listening()
    settings = ("initial.prompts=['Notes.']", "initial.examples=['Slept well.']", "variation.examples=1")
    prompted(make_config(*settings), engine)([POOL[0]], POOL, np.random.default_rng(0))
    assert [part.split("\n")[1] for part in engine.prompts[0].text.split(HEADER)[1:-1]] == ["Slept well.", POOL[0].text]


def test_failed_completions_are_none(make_config: Make) -> None:
    parents = [Candidate(text) for text in ("good one", "bad one", "good two")]
    config = make_config("variation.examples=1", "speed.chunk=2")
    assert prompted(config, Listening())(parents, parents, np.random.default_rng(0)) == ["new", None, "new"]


def test_all_prompts_of_a_phase_at_once(make_config: Make) -> None:
    engine, rng = Listening(), np.random.default_rng(0)
    config = make_config("variation.max_tokens=7", "variation.temperature=0.5", "variation.top_p=0.9")
    vary = prompted(config, engine)
    vary(POOL, POOL, rng)
    vary(POOL, POOL, rng)
    first, second = engine.samplings
    assert len(engine.prompts) == 2 * len(POOL)
    assert (first.max_tokens, first.temperature, first.top_p, first.stop) == (7, 0.5, 0.9, (HEADER, "\n\n"))
    assert first.seed != second.seed


def test_prompted_variations_are_repeatable(make_config: Make) -> None:
    def reply(prompt: Prompt, rng: np.random.Generator) -> str:
        return f"{len(prompt.text)} {rng.random()}"

    def once(seed: int) -> list[str | None]:
        return prompted(make_config(), ScriptedEngine(reply))(POOL, POOL, np.random.default_rng(seed))

    assert once(1) == once(1) != once(2)
