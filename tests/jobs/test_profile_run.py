"""Whole runs of the profile's method, with a scripted generator and a hashing embedder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tomlkit

from pretext.audit.origins import check_run_origins
from pretext.config.resolve import dump_settings
from pretext.config.settings import Config
from pretext.errors import EngineError, ModelError, NoSignal, UsageError
from pretext.home import open_ledger
from pretext.jobs.run import expand_run, synthesize
from pretext.models.engines.scripted import ScriptedEngine
from pretext.prompts import Prompt
from pretext.report.page import write_report
from pretext.run.profiles import load_profile_answer, load_profile_query
from pretext.run.writers import load_writer
from pretext.statement.verify import verify_folder
from tests.support.runs import Command, make_parts, reply, rows_of, write_rows

PROFILE = (
    "preset=profile",
    "privacy.rounds=1",
    "privacy.epsilon=200",
    "initial.prompts=['short lists of words']",
    "profile.prompted_texts=120",
    "profile.guided_texts=60",
    "profile.features=200",
    "profile.clusters=8",
    "adapt.method=none",
    "screening.min_words=1",
)


@pytest.fixture
def profile_config(make_config: Callable[..., Config]) -> Config:
    return make_config(*PROFILE)


def test_profile_run__small_data__writes_texts_a_statement_and_a_report(profile_config: Config, tmp_path: Path) -> None:
    run = synthesize(profile_config, tmp_path / "run", make_parts(profile_config))
    lines = (run.folder / "synthetic.jsonl").read_text(encoding="utf-8").splitlines()
    assert len({json.loads(line)["text"] for line in lines}) == len(lines) == 30
    statement = run.require_statement()
    assert statement.rounds is not None
    assert (statement.rounds.released, statement.rounds.release) == (1, "profile")
    assert [release.label for release in statement.releases] == [f"{run.id}/profile/0"]
    assert statement.guarantee.epsilon <= 200
    record = load_writer(run)
    assert record is not None
    assert set(record.distances) == {"prompted", "guided"}
    write_report(run.folder, tmp_path / "report.html", None)
    assert "preset" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_profile_run__every_text__is_sampled_as_the_synthetic_ones(profile_config: Config, tmp_path: Path) -> None:
    """A pool that is sampled more narrowly would teach the adapted generator to repeat itself."""
    seen = set()

    class Watched(ScriptedEngine):
        def complete(self, prompts, sampling, advance=lambda steps: None):  # type: ignore[no-untyped-def]
            seen.add((sampling.temperature, sampling.top_p, sampling.max_tokens))
            return super().complete(prompts, sampling, advance)

    expansion = profile_config.expansion.model_copy(update={"temperature": 0.7, "top_p": 0.9, "max_tokens": 33})
    config = profile_config.model_copy(update={"expansion": expansion})
    synthesize(config, tmp_path / "run", make_parts(config, Watched(reply)))
    assert seen == {(0.7, 0.9, 33)}


def test_profile_run__finished__is_verified_and_its_edited_answer_is_not(
    profile_config: Config, tmp_path: Path
) -> None:
    run = synthesize(profile_config, tmp_path / "run", make_parts(profile_config))
    assert not [check for check in verify_folder(run.folder, open_ledger()) if check.differences]
    answer = run.folder / "profile/000.released.json"
    values = json.loads(answer.read_text())
    values["noisy"][0] += 1.0
    answer.write_text(json.dumps(values))
    found = [difference.file for check in verify_folder(run.folder, open_ledger()) for difference in check.differences]
    assert "profile/000.released.json" in found


@pytest.mark.parametrize("step", ["save_profile_answer", "write_guided", "judge_writer", "save_writer", "expand"])
def test_profile_run__killed_at_a_step_and_resumed__draws_nothing_more(
    step: str, profile_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    module = "pretext.evolution.profile_loop" if step == "save_profile_answer" else "pretext.jobs.profile"
    with monkeypatch.context() as patched:
        patched.setattr(f"{module}.{step}", die)
        with pytest.raises(KeyboardInterrupt):
            synthesize(profile_config, tmp_path / "run", make_parts(profile_config))
    (before,) = open_ledger().account("private").releases
    run = synthesize(profile_config, tmp_path / "run", make_parts(profile_config))
    (after,) = open_ledger().account("private").releases
    answer = load_profile_answer(run, 0)
    assert answer is not None
    assert answer.noisy == before.noisy.tolist() == after.noisy.tolist()
    expand_run(profile_config, run, make_parts(profile_config), 60)
    texts = (run.folder / "synthetic.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(set(texts)) == len(texts) == 60


def test_profile_run__two_rounds_and_labels__asks_all_labels_in_one_vector(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    write_rows(tmp_path / "private.jsonl", rows_of(label=True))
    config = make_config(
        *PROFILE,
        "privacy.rounds=2",
        "data.label_column=label",
        "data.labels=['computers','home']",
        "expansion.texts=20",
    )
    run = synthesize(config, tmp_path / "run", make_parts(config))
    query = load_profile_query(run, 1)
    assert query is not None
    assert query.labels == 2
    assert [release.coordinates for release in run.require_statement().releases][1] == query.dimension
    labels = {json.loads(line)["label"] for line in (run.folder / "synthetic.jsonl").read_text().splitlines()}
    assert labels == {"computers", "home"}
    assert check_run_origins(config, run).wrong == []
    path = run.folder / "profile/001.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"features": stored["features"][::-1]}))
    assert [wrong.split(":")[0] for wrong in check_run_origins(config, run).wrong] == [
        "profile/001.json, digest of the question"
    ]


def test_profile_run__too_much_noise__says_that_there_is_no_signal(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(*PROFILE, "privacy.epsilon=0.01")
    with pytest.raises(NoSignal):
        synthesize(config, tmp_path / "run", make_parts(config))
    assert len(open_ledger().account("private").releases) == 1


@pytest.mark.parametrize(
    "settings",
    [
        ("speed.engine=openai", "models.generator=served"),
        ("speed.engine=ray",),
        ("models.adapter=some/adapter",),
        ("models.generator={folder}",),
    ],
    ids=["server", "ray", "adapter", "folder without weights"],
)
def test_door__an_adaptation_that_cannot_work__is_refused_before_anything_is_made(
    settings: tuple[str, ...], make_config: Callable[..., Config], called: Command, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    settings = tuple(setting.format(folder=tmp_path / "model") for setting in settings)
    config = make_config(*PROFILE, "adapt.method=lora", *settings)
    with pytest.raises((UsageError, ModelError)):
        synthesize(config, tmp_path / "run", make_parts(config))
    assert not (tmp_path / "run").exists() and open_ledger().names() == []
    (tmp_path / "pretext.toml").write_text(tomlkit.dumps(dump_settings(config)), encoding="utf-8")
    assert called("plan", tmp_path / "pretext.toml")[0] in (1, 2)
    assert called("plan", tmp_path / "pretext.toml", "--set", "adapt.method=none")[0] == 0


def test_profile_run__weights_to_adapt_are_not_here__is_refused_before_the_release(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(*PROFILE, "adapt.method=lora", "models.generator=nobody/nothing")
    with pytest.raises(ModelError):
        synthesize(config, tmp_path / "run", make_parts(config))
    assert not open_ledger().account("private").releases


def test_profile_run__a_pool_of_a_few_texts__is_refused_before_the_release(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(*PROFILE, "profile.prompted_texts=20", "profile.public_texts=20")
    with pytest.raises(UsageError):
        synthesize(config, tmp_path / "run", make_parts(config))
    assert not open_ledger().account("private").releases


def test_profile_run__nothing_usable_after_the_release__stops_and_goes_on_later(
    profile_config: Config, tmp_path: Path
) -> None:
    def fail_later(prompt: Prompt, rng: np.random.Generator) -> str:
        return "" if (tmp_path / "run/profile/000.released.json").exists() else reply(prompt, rng)

    with pytest.raises(EngineError):
        synthesize(profile_config, tmp_path / "run", make_parts(profile_config, ScriptedEngine(fail_later)))
    assert len(open_ledger().account("private").releases) == 1
    run = synthesize(profile_config, tmp_path / "run", make_parts(profile_config))
    assert len(run.require_statement().releases) == 1
