"""Few-shot prompts, and files of any format and number that hold what the generator wrote."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import count, permutations
from pathlib import Path

import numpy as np
import pytest

from pretext.api import Result
from pretext.config.resolve import validate_settings
from pretext.config.settings import Config
from pretext.errors import EngineError, RunFolderError
from pretext.evolution.expansion import PromptSampler, draw_without_replacement
from pretext.jobs.run import expand_seeds
from pretext.models.engines import Engine
from pretext.models.engines.scripted import ScriptedEngine
from pretext.prompts import HEADER, Prompt
from pretext.run.folder import Run
from pretext.run.records import Seed
from pretext.run.shards import synthetic_rows
from tests.support.runs import ACCOUNT, reply

WEIGHTS = [4.0, 3.0, 2.0, 1.0]
SEEDS = [Seed(f"seed number {row} of a few", 0, 1, 10.0, weight) for row, weight in enumerate(WEIGHTS)]


@pytest.fixture
def make_run(make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., tuple[Config, Run]]:
    """An empty run folder with a configuration of its own."""

    def make(*overrides: str) -> tuple[Config, Run]:
        config = make_config(*overrides)
        return config, Run.create(tmp_path / "run", config, ACCOUNT)

    return make


def _scripted() -> Engine:
    return ScriptedEngine(reply)


def _numbered(prompt: Prompt, rng: np.random.Generator) -> str:
    return f"text number {rng.integers(2**40)}"


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("size", [None, 1, 8, 9, 30, 31])
def test_the_texts_are_the_same_in_every_kind_of_file(
    form: str, size: int | None, make_run: Callable[..., tuple[Config, Run]], tmp_path: Path
) -> None:
    sharded = [] if size is None else [f"expansion.shard_texts={size}"]
    config, run = make_run(f"expansion.format={form}", *sharded)
    path = expand_seeds(config, run, SEEDS, lambda: ScriptedEngine(_numbered), 30)
    if size is None:
        assert path == run.folder / f"synthetic.{form}"
    else:
        assert [file.name for file in sorted(path.iterdir())] == [
            f"{number:05}.{form}" for number in range(math.ceil(30 / size))
        ]
    whole = Run.create(
        tmp_path / "whole", config.model_copy(update={"expansion": type(config.expansion)(texts=30)}), ACCOUNT
    )
    expand_seeds(config.model_copy(update={"expansion": type(config.expansion)(texts=30)}), whole, SEEDS,
           lambda: ScriptedEngine(_numbered), 30)  # fmt: skip
    lines = [json.loads(line) for line in (whole.folder / "synthetic.jsonl").read_text().splitlines()]
    assert list(synthetic_rows(run.folder)) == lines
    assert Result(run.folder).texts == [line["text"] for line in lines]
    assert len(lines) == 30


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_the_shards_are_a_dataset(
    form: str, make_run: Callable[..., tuple[Config, Run]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import load_dataset

    config, run = make_run(f"expansion.format={form}", "expansion.shard_texts=7")
    path = expand_seeds(config, run, SEEDS, _scripted, 30)
    read = load_dataset(str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert list(read) == list(synthetic_rows(run.folder))
    streamed = load_dataset(str(path), split="train", streaming=True)
    assert list(streamed) == list(read)


def test_a_finished_run_opens_no_engine_and_grows(make_run: Callable[..., tuple[Config, Run]]) -> None:
    config, run = make_run("expansion.shard_texts=8")
    path = expand_seeds(config, run, SEEDS, _scripted, 20)
    before = {file: file.stat().st_mtime_ns for file in path.iterdir()}

    def untouchable() -> Engine:
        raise AssertionError("nothing is missing")

    assert expand_seeds(config, run, SEEDS, untouchable, 20) == expand_seeds(config, run, SEEDS, untouchable, 3) == path
    assert {file: file.stat().st_mtime_ns for file in path.iterdir()} == before
    first = list(synthetic_rows(run.folder))
    expand_seeds(config, run, SEEDS, _scripted, 37)
    rows = list(synthetic_rows(run.folder))
    assert rows[:20] == first
    assert len({row["text"] for row in rows}) == len(rows) == 37
    assert [len(file.read_text().splitlines()) for file in sorted(path.iterdir())] == [8, 8, 8, 8, 5]


def test_no_more_is_asked_than_is_missing(make_run: Callable[..., tuple[Config, Run]]) -> None:
    """The chunk is an upper bound: a few texts do not cost a chunk of thousands."""
    asked = []

    class Counting:
        def complete(self, prompts, sampling, advance):  # type: ignore[no-untyped-def]
            asked.append(len(prompts))
            texts = ScriptedEngine(_numbered).complete(prompts, sampling, advance)
            return [text if index % 2 else None for index, text in enumerate(texts)]

    config, run = make_run("speed.chunk=100000")
    expand_seeds(config, run, SEEDS, Counting, 100)  # type: ignore[arg-type]
    assert asked[0] == math.ceil(1.1 * 100)
    assert 200 <= sum(asked) <= 260


@pytest.mark.parametrize(
    "damage",
    [
        '{"chunks": 1}',
        "[1, 2]",
        '{"chunks": 1, "kept": -4, "size": 0, "dropped": {}}',
        '{"chunks": 1, "kept": "many", "size": 0, "dropped": {}}',
        '{"chunks": 1, "kept": 8',
    ],
)
def test_a_damaged_state_is_told_and_destroys_nothing(damage: str, make_run: Callable[..., tuple[Config, Run]]) -> None:
    config, run = make_run()
    path = expand_seeds(config, run, SEEDS, _scripted, 30)
    before = path.read_bytes()
    (run.folder / "expansion.json").write_text(damage)
    with pytest.raises(RunFolderError, match=r"expansion\.json .*delete that file"):
        expand_seeds(config, run, SEEDS, _scripted, 30)
    assert path.read_bytes() == before
    (run.folder / "expansion.json").unlink()
    expand_seeds(config, run, SEEDS, _scripted, 30)
    assert path.read_bytes() == before


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_full_disk_loses_nothing_that_was_done(
    form: str, make_run: Callable[..., tuple[Config, Run]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused at each fsync in turn, each time told, and gone on from there to the same texts."""
    config, run = make_run(f"expansion.format={form}", "expansion.shard_texts=7")
    whole = dataclasses.replace(run, folder=tmp_path / "whole")
    shutil.copytree(run.folder, whole.folder)
    expand_seeds(config, whole, SEEDS, _scripted, 20)
    real, left = os.fsync, 0

    def refuse(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    for succeeding in range(20):
        left = succeeding
        monkeypatch.setattr(os, "fsync", refuse)
        with contextlib.suppress(RunFolderError):
            expand_seeds(config, run, SEEDS, _scripted, 20)
            break
        monkeypatch.setattr(os, "fsync", real)
    assert succeeding > 2, "the disk was never full"
    assert list(synthetic_rows(run.folder)) == list(synthetic_rows(whole.folder))


def test_lost_texts_are_told(make_run: Callable[..., tuple[Config, Run]]) -> None:
    config, run = make_run("expansion.shard_texts=8")
    path = expand_seeds(config, run, SEEDS, _scripted, 20)
    (path / "00001.jsonl").rename(run.folder / "elsewhere")
    with pytest.raises(RunFolderError, match=r"00001\.jsonl is missing"):
        expand_seeds(config, run, SEEDS, _scripted, 30)
    (run.folder / "elsewhere").rename(path / "00001.jsonl")
    (path / "00002.jsonl").rename(run.folder / "synthetic.00002.part")
    (run.folder / "synthetic.00002.part").write_text("{}")
    with pytest.raises(RunFolderError, match=r"00002\.part is missing or cut short"):
        expand_seeds(config, run, SEEDS, _scripted, 30)


def test_texts_of_an_earlier_beginning_do_not_stay(make_run: Callable[..., tuple[Config, Run]]) -> None:
    """Without its state an expansion starts anew; a shorter one than before leaves no shard of the longer one."""
    config, run = make_run("expansion.shard_texts=8")
    path = expand_seeds(config, run, SEEDS, _scripted, 40)
    (path / "notes.txt").write_text("somebody else's")
    (run.folder / "expansion.json").unlink()
    expand_seeds(config, run, SEEDS, _scripted, 12)
    assert sorted(file.name for file in path.iterdir()) == ["00000.jsonl", "00001.jsonl", "notes.txt"]
    assert len(list(synthetic_rows(run.folder))) == 12


def test_a_run_without_texts_says_so(make_run: Callable[..., tuple[Config, Run]], tmp_path: Path) -> None:
    _, run = make_run()
    with pytest.raises(RunFolderError, match="no synthetic texts yet"):
        list(synthetic_rows(run.folder))
    with pytest.raises(RunFolderError, match="not a run folder"):
        list(Result(tmp_path))


def test_another_format_is_refused_in_an_existing_run(
    make_run: Callable[..., tuple[Config, Run]], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    make_run("expansion.shard_texts=8")
    with pytest.raises(RunFolderError, match=r"differs in expansion\.format, expansion\.shard_texts"):
        Run.create(tmp_path / "run", make_config("expansion.format=parquet", "expansion.shard_texts=9"), ACCOUNT)


@pytest.mark.parametrize(("one_in", "chunk"), [(2**60, 8), (2**60, 2048), (1000, 2048)])
def test_expand__a_generator_of_almost_nothing_usable__is_given_up_and_can_go_on(
    make_run: Callable[..., tuple[Config, Run]], one_in: int, chunk: int
) -> None:
    config, run = make_run(f"speed.chunk={chunk}")
    numbers = count(1)
    barren = ScriptedEngine(lambda prompt, rng: _numbered(prompt, rng) if next(numbers) % one_in == 0 else "no")
    with pytest.raises(EngineError, match="too short: "):
        expand_seeds(config, run, SEEDS, lambda: barren, 100)
    assert next(numbers) < 2200
    expand_seeds(config, run, SEEDS, lambda: ScriptedEngine(_numbered), 100)
    assert len(list(synthetic_rows(run.folder))) == 100


def test_expand__five_texts_of_a_barren_generator__take_a_few_hundred_prompts(
    make_run: Callable[..., tuple[Config, Run]],
) -> None:
    config, run = make_run("speed.chunk=100000")
    engine = ScriptedEngine(lambda prompt, rng: "no")
    with pytest.raises(EngineError):
        expand_seeds(config, run, SEEDS, lambda: engine, 5)
    assert engine.usage.written < 300  # words, one an answer


def test_expand__half_a_character_at_the_end_of_an_answer__is_cut_off(
    make_run: Callable[..., tuple[Config, Run]],
) -> None:
    config, run = make_run("expansion.format=parquet")
    expand_seeds(config, run, SEEDS, lambda: ScriptedEngine(lambda _, rng: f"a b {rng.integers(2**40)} \ud800"), 5)
    assert all(row["text"].startswith("a b ") and row["text"][-1].isdigit() for row in synthetic_rows(run.folder))


def test_labels_get_their_share_and_examples_of_their_own(make_config: Callable[..., Config]) -> None:
    config = make_config("data.label_column=label", "data.labels=['x', 'y', 'z']", "expansion.examples=2")
    seeds = [Seed("of x one", 0, 1, 1, 3.0), Seed("of z one", 2, 1, 1, 0.5), Seed("of z two", 2, 1, 1, 0.5)]
    prompts, rows = PromptSampler(seeds, config.expansion.examples, config.prompt_style).draw(
        4000, np.random.default_rng(0)
    )
    labels = Counter(row["label"] for row in rows)
    assert labels.keys() == {"x", "z"}
    # 3/4 of 4000 fall on x, give or take six standard deviations: missed with a chance of 2e-9 by another seed.
    assert abs(labels["x"] - 3000) < 6 * math.sqrt(4000 * 0.75 * 0.25)
    for prompt, row in zip(prompts, rows, strict=True):
        samples = [part.split("\n")[1] for part in prompt.text.split(HEADER)[1:-1]]
        assert samples == ["of x one"] if row["label"] == "x" else sorted(samples) == ["of z one", "of z two"]


def test_a_single_description_stands_in_every_prompt_and_in_no_row(make_config: Callable[..., Config]) -> None:
    config = make_config("initial.prompts=['Notes of a nurse.']")
    prompts, rows = PromptSampler([Seed("a text", 0, 1, 1, 3.0)], 5, config.prompt_style).draw(
        5, np.random.default_rng(0)
    )
    assert all(" (Notes of a nurse):" in prompt.text for prompt in prompts)
    assert rows == [{}] * 5


def test_invented_examples_come_before_the_seeds_where_there_are_no_labels(make_config: Callable[..., Config]) -> None:
    described = ("initial.prompts=['Notes of a nurse.']", "initial.examples=['Slept well.', 'Refused lunch.']")
    labeled = ("data.label_column=label", "data.labels=['x']")
    for settings, expected in (
        (described, ["Slept well.", "Refused lunch.", "a text"]),
        ((*described, *labeled), ["a text"]),
    ):
        prompts, _ = PromptSampler([Seed("a text", 0, 1, 1, 3.0)], 5, make_config(*settings).prompt_style).draw(
            2, np.random.default_rng(0)
        )
        for prompt in prompts:
            assert [part.split("\n")[1] for part in prompt.text.split(HEADER)[1:-1]] == expected


def _successive(weights: list[float], count: int) -> dict[tuple[int, ...], float]:
    """The chance of every ordered draw, one weight after another out of those that are left."""
    chances = {}
    for places in permutations(range(len(weights)), count):
        chance, left = 1.0, sum(weights)
        for place in places:
            chance, left = chance * weights[place] / left, left - weights[place]
        chances[places] = chance
    return chances


def _distance(drawn: np.ndarray, chances: dict[tuple[int, ...], float]) -> float:
    """Pearson's statistic of the drawn rows."""
    seen = Counter(map(tuple, drawn.tolist()))
    return sum((seen[places] - len(drawn) * chance) ** 2 / (len(drawn) * chance) for places, chance in chances.items())


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_places_are_drawn_as_one_after_another(count: int) -> None:
    """The fast draw and numpy's, row by row, keep to the exact chances; a draw by equal weights does not."""
    edges, rows, rng = np.cumsum([0.0, *WEIGHTS]), 20_000, np.random.default_rng(count)
    chances = _successive(WEIGHTS, count)
    drawn = draw_without_replacement(edges, count, rows, rng)
    share = np.array(WEIGHTS) / sum(WEIGHTS)
    slow = np.array([rng.choice(4, count, replace=False, p=share) for _ in range(rows)])
    # The 1e-6 quantile of chi-square with 23 degrees of freedom, the most there are here, is 70.3.
    assert _distance(drawn, chances) < 71
    assert _distance(slow, chances) < 71
    assert _distance(draw_without_replacement(np.arange(5.0), count, rows, rng), chances) > 71
    assert all(len(set(row)) == count for row in drawn.tolist())


def test_uneven_weights_leave_the_small_ones_a_place() -> None:
    edges = np.cumsum([0.0, 1e9, 1e-3, 1e9, 1e-3])
    drawn = draw_without_replacement(edges, 4, 1000, np.random.default_rng(1))
    assert (np.sort(drawn, axis=1) == np.arange(4)).all()


@pytest.mark.parametrize(
    ("engine", "prompts"), [("transformers", 128), ("openai", 2048), ("vllm", 8192), ("ray", 8192)]
)
def test_the_chunk_suits_the_engine_unless_it_is_set(engine: str, prompts: int) -> None:
    settings = {"privacy": {"epsilon": 1}, "initial": {"prompts": ["x"]}}
    assert validate_settings({**settings, "speed": {"engine": engine}}).speed.prompts_at_once == prompts
    assert validate_settings({**settings, "speed": {"engine": engine, "chunk": 5}}).speed.prompts_at_once == 5
