"""The run folder: atomic, told in sentences, and the same after any kill."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pretext.config.settings import Config
from pretext.errors import RunFolderError
from pretext.fred.query import load_query
from pretext.run.folder import Run
from pretext.run.records import Candidate, ExpansionState, Phase, Seed, SeedLine, Selection
from pretext.run.shards import synthetic_rows
from tests.support.runs import ACCOUNT


def test_what_is_saved_is_loaded(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config()
    run = Run.create(tmp_path / "run", config, ACCOUNT)
    population = [
        Candidate("emoji \U0001f600 and \u05e2\u05d1\u05e8\u05d9\u05ea", 1),
        Candidate("a lone surrogate \ud800"),
    ]
    run.save_population(0, population)
    again, stored = Run.open(tmp_path / "run")
    assert again == run
    assert stored == config
    assert again.population(0) == population
    assert again.population(1) is None


def test_the_same_configuration_continues_and_another_is_refused(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", make_config(), ACCOUNT)
    assert Run.create(tmp_path / "run", make_config("speed.batch_size=3"), ACCOUNT).id == run.id
    with pytest.raises(RunFolderError, match=r"differs in privacy\.epsilon"):
        Run.create(tmp_path / "run", make_config("privacy.epsilon=2"), ACCOUNT)


def test_a_folder_with_other_things_in_it_is_left_alone(make_config: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    with pytest.raises(RunFolderError, match="not a run folder"):
        Run.create(tmp_path / "run", make_config(), ACCOUNT)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_taken(make_config: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    Run.create(tmp_path / "run", make_config(), ACCOUNT)
    assert (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "denied")]
)
def test_what_the_file_system_refuses_is_one_sentence(
    number: int, words: str, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run", make_config(), ACCOUNT)
    run.save("thing.json", 1)

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RunFolderError, match=words) as caught:
        run.save("thing.json", 2)
    assert "pretext resume" in str(caught.value)
    assert run.load("thing.json") == 1


def test_a_folder_that_cannot_be_made(make_config: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written"):
        Run.create(tmp_path / "file" / "run", make_config(), ACCOUNT)


@pytest.mark.parametrize("name", ["run.json", "config.toml"])
def test_damage_is_told(name: str, make_config: Callable[..., Config], tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", make_config(), ACCOUNT)
    (run.folder / name).write_text("{ not valid")
    with pytest.raises(RunFolderError, match="damaged"):
        Run.open(run.folder)
    (run.folder / name).unlink()
    with pytest.raises(RunFolderError, match="not a run folder"):
        Run.open(run.folder)


def test_a_damaged_round_is_told(make_config: Callable[..., Config], tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", make_config(), ACCOUNT)
    run.save_population(0, [Candidate("a b c")])
    (run.folder / "population" / "000.json").write_text('{"candidates": [')
    with pytest.raises(RunFolderError, match=r"population/000\.json cannot be read"):
        run.population(0)


SELECTED: dict[str, Any] = {
    "noisy": [1.0, 9, 8.5],
    "sigma": 2.0,
    "threshold": 1.5,
    "survivors": [1, 2],
    "weights": [6.0, 5.5],
    "parents": [1, 1, 2],
}
MISSHAPEN: dict[str, tuple[str, Any]] = {
    "candidates that are none": ("population", {"candidates": [["a b c"]]}),
    "a population without candidates": ("population", {}),
    "no origins": ("population", {"candidates": [["a b c", 0]]}),
    "fewer origins than candidates": ("population", {"candidates": [["a b c", 0]], "origins": []}),
    "another value": ("selected", 3),
    "a selection without votes": ("selected", {key: value for key, value in SELECTED.items() if key != "noisy"}),
    "a vote that is a word": ("selected", SELECTED | {"noisy": [1.0, "many", 8.5]}),
    "fewer weights than survivors": ("selected", SELECTED | {"weights": [6.0]}),
    "a survivor that is no candidate": ("selected", SELECTED | {"survivors": [1, 3]}),
    "a parent that is no candidate": ("selected", SELECTED | {"parents": [-1, 1, 2]}),
}


@pytest.mark.parametrize("case", MISSHAPEN)
def test_a_round_of_a_wrong_shape_is_told(case: str, make_config: Callable[..., Config], tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", make_config(), ACCOUNT)
    run.save("selected/000.json", SELECTED)
    assert run.selection(0) == Selection(**SELECTED)
    kind, content = MISSHAPEN[case]
    run.save(f"{kind}/000.json", content)
    with pytest.raises(RunFolderError, match=rf"{kind}/000\.json cannot be read"):
        {"population": run.population, "selected": run.selection}[kind](0)


def test_seeds_are_readable_by_people(make_config: Callable[..., Config], tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", make_config(), ACCOUNT)
    run.save_seeds([Seed("héllo", 1, 2, 17.25, 3.0)], ["a", "b"])
    assert json.loads((run.folder / "seeds.jsonl").read_text()) == {
        "text": "héllo",
        "label": "b",
        "round": 2,
        "votes": 17.25,
    }
    assert run.seed_lines() == [SeedLine("héllo", 2, 17.25, "b")]
    (run.folder / "seeds.jsonl").write_text('{"text": "no round"}\n')
    with pytest.raises(RunFolderError, match=r"seeds\.jsonl"):
        run.seed_lines()


def test_records__saved_then_loaded__are_equal(make_config: Callable[..., Config], tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", make_config(), ACCOUNT)
    assert (run.expansion_state(), run.timings(), run.drop_counts(0)) == (ExpansionState(0, 0, 0, {}), {}, {})
    assert (run.seed_lines(), run.statement()) == ([], None)
    state, phases = ExpansionState(2, 30, 512, {"duplicate": 3}), {"expansion": Phase(1.5, 10, 20)}
    run.save_expansion_state(state)
    run.save_timings(phases)
    run.save_population(0, [Candidate("a b c")], {"too short": 4})
    assert (run.expansion_state(), run.timings(), run.drop_counts(0)) == (state, phases, {"too short": 4})


@pytest.mark.parametrize(
    ("name", "content", "load"),
    [
        ("expansion.json", {"chunks": 1, "kept": -1, "size": 0, "dropped": {}}, Run.expansion_state),
        ("population/000.json", {"candidates": [], "origins": []}, lambda run: run.drop_counts(0)),
        ("privacy.json", {"run": "a"}, Run.statement),
    ],
)
def test_load__damaged__names_the_file(
    name: str, content: object, load: Callable[[Run], object], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", make_config(), ACCOUNT)
    run.save(name, content)
    with pytest.raises(RunFolderError, match=re.escape(name)):
        load(run)


def test_create__in_an_empty_folder__fills_it_in_place(make_config: Callable[..., Config], tmp_path: Path) -> None:
    # A mount point cannot be renamed over.
    (tmp_path / "run").mkdir()
    before = (tmp_path / "run").stat().st_ino
    Run.create(tmp_path / "run", make_config(), ACCOUNT)
    assert (tmp_path / "run").stat().st_ino == before


def test_create__after_a_killed_start__goes_on(make_config: Callable[..., Config], tmp_path: Path) -> None:
    Run.create(tmp_path / "run", make_config(), ACCOUNT)
    (tmp_path / "run" / "run.json").unlink()  # it is written last
    assert Run.create(tmp_path / "run", make_config(), ACCOUNT).folder == tmp_path / "run"


def test_create__beside_somebodys_config__leaves_it_alone(make_config: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("# my own\n")
    with pytest.raises(RunFolderError):
        Run.create(tmp_path, make_config(), ACCOUNT)
    assert (tmp_path / "config.toml").read_text() == "# my own\n"


def test_timings__damaged__are_none(make_config: Callable[..., Config], tmp_path: Path) -> None:
    # They only hold seconds: no run should fail because of them.
    run = Run.create(tmp_path / "run", make_config(), ACCOUNT)
    for content in ('{"expansion": {"seconds": "long"}}', "[", "[" * 100_000):
        (run.folder / "timings.json").write_text(content)
        assert run.timings() == {}


LOADERS: dict[str, Callable[[Run], object]] = {
    "run.json": lambda run: Run.open(run.folder),
    "config.toml": lambda run: Run.open(run.folder),
    "population/000.json": lambda run: run.population(0),
    "selected/000.json": lambda run: run.selection(0),
    "positions/000.npy": lambda run: run.positions(0),
    "seeds.jsonl": Run.seed_lines,
    "privacy.json": Run.statement,
    "expansion.json": Run.expansion_state,
    "query.json": lambda run: load_query(run.folder),
    "synthetic.jsonl": lambda run: list(synthetic_rows(run.folder)),
}
CONTENTS = {
    "nested": b"[" * 100_000,
    "no UTF-8": b'{"a": "\xff"}',
    "another value": b"3",
    "a list": b"[]",
    "half a character": b'{"text": "\\ud800"}',
    "no text": b'{"label": "a"}',
    "a number for a text": b'{"text": 1}',
    "a header that Python cannot read": b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f2', 'shape': (((,",
    "an archive": b"PK\x03\x04",
    "infinite numbers": b'{"epsilon": 1e999, "candidates": [["a", 1e999]], "origins": [null]}',
}


@pytest.mark.parametrize("name", LOADERS)
def test_load__of_any_content__is_one_error_of_ours(
    name: str, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", make_config(), ACCOUNT)
    path = run.folder / name
    path.parent.mkdir(exist_ok=True)
    for content in CONTENTS.values():
        path.write_bytes(content)
        with pytest.raises(RunFolderError) as caught:
            LOADERS[name](run)
        assert len(str(caught.value)) < 1000
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RunFolderError):
        LOADERS[name](run)
