from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pretext.config.settings import Config, Data, Initial
from pretext.errors import UsageError
from pretext.fred.recommend import resolve_public_sets
from pretext.home import open_ledger
from pretext.jobs.run import synthesize
from pretext.separation import check_apart, check_sources_apart
from pretext.tables import Source
from tests.support.runs import Command, make_parts


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "notes.jsonl").write_text('{"text": "a"}\n')
    return folder / "notes.jsonl"


@pytest.mark.parametrize("kind", ["path", "spelling", "link", "hard link", "gz", "zst", "folder", "linked folder"])
def test_check_apart__the_private_file_as_public_in_any_way__is_refused(
    kind: str, private: Path, tmp_path: Path
) -> None:
    public = tmp_path / "public.jsonl"
    match kind:
        case "path":
            public = private
        case "spelling":
            public = private.parent / ".." / "data" / private.name
        case "link":
            public.symlink_to(private)
        case "hard link":
            os.link(private, public)
        case "folder":
            public = private.parent
        case "linked folder":
            (tmp_path / "shards").mkdir()
            public = tmp_path / "shards"
            os.link(private, public / "a.jsonl")
        case _:
            public = private.with_name(f"{private.name}.{kind}")
            public.write_bytes(b"x")
    other = tmp_path / "other.jsonl"
    other.write_text("{}")
    with pytest.raises(UsageError):
        check_apart(Source(str(private)), [Source(str(other)), Source(str(public))])
    with pytest.raises(UsageError):
        check_apart(Source(str(public)), [Source(str(private))])
    check_apart(Source(str(private)), [Source(str(other))])


def test_check_apart__of_a_hub_dataset__compares_subset_and_split() -> None:
    private = Source("hf:owner/name", None, "train")
    check_apart(private, [Source("hf:owner/name", None, "test"), Source("hf:owner/other"), Source("a.jsonl")])
    for twin in (Source("Owner/Name"), Source("hf:owner/name", "default")):
        with pytest.raises(UsageError):
            check_apart(private, [twin])


def test_check_apart__of_texts_from_memory__has_nothing_to_compare() -> None:
    check_apart(Source(""), [Source("hf:owner/name")])


def test_check_apart__a_folder_of_a_run__is_named(
    tmp_path: Path, private: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    check_apart(Source(str(private)), [Source(str(tmp_path / "run"))])
    assert str(tmp_path / "run") in caplog.text


@pytest.mark.parametrize("command", ["run", "plan", "audit", "fred", "fred --plan"])
def test_door__the_private_file_as_public__is_refused_before_anything_is_made(
    command: str, called: Command, private_file: Path, public_file: Path, tmp_path: Path
) -> None:
    sets = ["--set", "privacy.clients=50"]
    match command.split()[0]:
        case "audit":
            sets += ["--set", f'data.path="{private_file}"', "--set", f'initial.texts="{private_file}"', "--runs", "0"]
        case "fred":
            sets += ["--private", private_file, "--public-set", private_file, "--public-set", public_file]
        case _:
            sets += ["--private", private_file, "--public", private_file]
    out = [] if command in ("plan", "audit") else ["--out", tmp_path / "out"]
    epsilon = [] if command == "audit" else ["--epsilon", "1"]
    code, _, err = called(*command.split(), *sets, *out, *epsilon)
    assert code == 2
    assert str(private_file) in err
    assert not (tmp_path / "out").exists() and open_ledger().names() == []


@pytest.mark.parametrize("command", ["report", "memorization --no-embedding", "evaluate --test {private}", "audit"])
def test_look_at_a_run__its_public_file_has_become_the_private_one__is_refused(
    command: str,
    called: Command,
    make_config: Callable[..., Config],
    private_file: Path,
    public_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    config = make_config("privacy.rounds=1", "expansion.texts=4")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    public_file.unlink()
    os.link(private_file, public_file)
    name, *options = command.format(private=private_file).split()
    code, _, err = called(name, run.folder, *options)
    assert (code, str(public_file) in err) == (2, True)
    assert not (tmp_path / "report.html").exists() and not (tmp_path / "evaluation.json").exists()


def test_check_sources_apart__private_texts_are_the_run_s_own__are_refused(
    private: Path, tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    initial, folder = make_config().initial, tmp_path / "run"
    folder.mkdir()
    check_sources_apart(Data(path=str(private)), initial, folder)
    for path in (folder, folder / "synthetic.jsonl", tmp_path):
        with pytest.raises(UsageError):
            check_sources_apart(Data(path=str(path)), initial, folder)


def test_public_sets__of_a_configured_split__are_read_and_compared_as_that_split(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for split in ("train", "test"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{split}.jsonl").write_text('{"text": "a"}\n')
    initial = Initial(public_sets=(str(tmp_path / "a"), str(tmp_path / "b")), split="test")
    assert [public.source.split for public in resolve_public_sets(initial)] == ["test", "test"]
