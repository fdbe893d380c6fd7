from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretext.config.settings import Config
from pretext.errors import EngineError, UsageError
from pretext.jobs.run import make_first_population
from pretext.models.engines import Engine, Sampling, Usage, ignore_progress
from pretext.models.engines.scripted import ScriptedEngine
from pretext.prompts import HEADER, Prompt
from pretext.run.records import Candidate, digest_population
from pretext.screening.screen import Screen
from tests.support.runs import write_rows

Make = Callable[..., Config]


def texts(population: Sequence[Candidate]) -> list[str]:
    return [candidate.text for candidate in population]


def public(path: Path, lines: Sequence[Any]) -> str:
    return f"initial.texts={write_rows(path, [{'text': line} for line in lines])}"


def first_population(config: Config, engine: Engine | None) -> list[Candidate]:
    return make_first_population(config, Screen(config.screening), engine)


def numbered(prompt: Prompt, rng: np.random.Generator) -> str:
    return f"a written text {rng.integers(10**9)}"


def test_usable_public_texts_are_taken(make_config: Make, tmp_path: Path) -> None:
    good = ["one two three four", "five  six\nseven eight", "a b c d e f g h"]
    bad = ["too short", "", " ", None, "One  TWO three four"]  # the last one is a duplicate but for case and space
    source = public(tmp_path / "p.jsonl", [*good, *bad])
    config = make_config(source, "initial.min_words=4", "initial.max_words=6", "evolution.population=3")
    # Cut to six words; what is not too long stays as it is.
    assert sorted(texts(first_population(config, None))) == sorted([*good[:2], "a b c d e f"])


def test_too_few_public_texts_are_refused(make_config: Make, tmp_path: Path) -> None:
    source = public(tmp_path / "p.jsonl", [f"one two three four five {number}" for number in range(10)])
    with pytest.raises(UsageError, match=r"only 10 usable texts of at least 5 words, 11 are needed"):
        first_population(make_config(source, "evolution.population=11"), None)
    assert len(first_population(make_config(source, "evolution.population=10"), None)) == 10


def test_the_seed_decides_and_the_whole_file_is_in_reach(make_config: Make, tmp_path: Path) -> None:
    source = public(tmp_path / "p.jsonl", [f"one two three four five {number}" for number in range(600)])
    chosen = [set(texts(first_population(make_config(source, f"evolution.seed={seed}"), None))) for seed in range(24)]
    again = first_population(make_config(source, "evolution.seed=0"), None)
    assert set(texts(again)) == chosen[0] and texts(again) == texts(
        first_population(make_config(source, "evolution.seed=0"), None)
    )
    # 24 draws of 24 out of 600. A third of the file holds 192 of them on average, with a standard deviation of 11; the
    # seeds are fixed, so this never changes from run to run.
    thirds = Counter(int(text.split()[-1]) // 200 for draw in chosen for text in draw)
    assert all(abs(count - 192) < 70 for count in thirds.values()) and len(thirds) == 3


def test_a_sample_is_not_in_the_order_of_the_file(make_config: Make, tmp_path: Path) -> None:
    source = public(tmp_path / "p.jsonl", [f"one two three four five {number}" for number in range(24)])
    order = [int(text.split()[-1]) for text in texts(first_population(make_config(source), None))]
    assert sorted(order) == list(range(24)) != order


@pytest.fixture
def prompted(make_config: Make) -> Make:
    """A configuration that starts from two prompts and no public file."""

    def make(*overrides: str, texts: str | None = None) -> Config:
        config = make_config("initial.prompts=['Garden notes.', 'Computer notes.']", *overrides)
        return config.model_copy(update={"initial": config.initial.model_copy(update={"texts": texts})})

    return make


def test_prompts_share_the_population(prompted: Make) -> None:
    seen: list[str] = []

    def reply(prompt: Prompt, rng: np.random.Generator) -> str:
        seen.append(prompt.text.split(".")[0])
        return numbered(prompt, rng) + f"\n\n{HEADER} 2\nwhat comes after the next header"

    population = first_population(prompted(), ScriptedEngine(reply))
    assert len(population) == 24 == len(set(texts(population)))
    assert Counter(seen) == {"Garden notes": 12, "Computer notes": 12}
    assert all("header" not in text for text in texts(population))
    assert population == first_population(prompted(), ScriptedEngine(numbered))  # and the cut is all there is to it


def test_invented_examples_stand_in_every_first_prompt(prompted: Make) -> None:
    seen: list[str] = []

    def reply(prompt: Prompt, rng: np.random.Generator) -> str:
        seen.append(prompt.text)
        return numbered(prompt, rng)

    first_population(prompted("initial.examples=['Mow the lawn.', 'Water it.']"), ScriptedEngine(reply))
    samples = f"{HEADER} 1\nMow the lawn.\n\n{HEADER} 2\nWater it.\n\n{HEADER} 3\n"
    assert all(text.endswith(samples) for text in seen)
    assert Counter(text.split("(")[1].split(")")[0] for text in seen) == {"Garden notes": 12, "Computer notes": 12}


def test_prompts_are_asked_again_for_what_the_screening_drops(prompted: Make) -> None:
    def reply(prompt: Prompt, rng: np.random.Generator) -> str:
        return numbered(prompt, rng) if rng.random() < 0.5 else "bad"

    # Half of the answers are dropped; what is missing is asked for again, five times.
    assert len(first_population(prompted(), ScriptedEngine(reply))) == 24


def test_a_generator_that_writes_nothing_usable(prompted: Make) -> None:
    with pytest.raises(EngineError, match="too short: 72"):
        first_population(prompted(), ScriptedEngine(lambda prompt, rng: "bad"))


def test_failed_answers_are_passed_over(prompted: Make) -> None:
    class Failing:
        """Every second request fails."""

        usage = Usage()

        def complete(self, prompts: Sequence[Prompt], sampling: Sampling, advance=ignore_progress) -> list[str | None]:
            fresh = ScriptedEngine(numbered).complete(prompts, sampling)
            return [text if number % 2 else None for number, text in enumerate(fresh)]

    engine: Engine = Failing()
    assert len(first_population(prompted(), engine)) == 24


@pytest.mark.parametrize(("share", "written"), [(0.0, 0), (0.25, 6), (0.5, 12), (1.0, 24)])
def test_both_sources_by_their_share(make_config: Make, share: float, written: int) -> None:
    config = make_config("initial.prompts=['Notes.']", f"initial.prompted_share={share}")
    population = first_population(config, ScriptedEngine(numbered))
    assert sum(text.startswith("a written text") for text in texts(population)) == written and len(population) == 24


@pytest.mark.parametrize("size", [24, 25, 26])
def test_labels_get_equal_shares(make_config: Make, size: int) -> None:
    labels = ["data.label_column=label", "data.labels=['x', 'y', 'z']", f"evolution.population={size}"]
    counts = Counter(candidate.label for candidate in first_population(make_config(*labels), None))
    assert set(counts) == {0, 1, 2} and max(counts.values()) - min(counts.values()) <= 1
    assert {candidate.label for candidate in first_population(make_config(), None)} == {0}


def test_a_digest_binds_text_label_and_order() -> None:
    one, two = Candidate("a", 0), Candidate("b", 1)
    populations = [[one, two], [two, one], [one], [one, Candidate("b", 0)], [Candidate("a "), two], [], [one, one]]
    assert len({digest_population(population) for population in populations}) == len(populations)


candidates = st.lists(st.builds(Candidate, st.text(max_size=5), st.integers(0, 3)), max_size=4)


@settings(deadline=None)
@given(candidates, candidates)
def test_digests_tell_populations_apart(one: list[Candidate], other: list[Candidate]) -> None:
    assert (digest_population(one) == digest_population(other)) is (one == other)
