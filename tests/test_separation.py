from __future__ import annotations

import os
from pathlib import Path

import pytest

from pretext.errors import UsageError
from pretext.home import open_ledger
from pretext.separation import check_apart
from pretext.tables import Source
from tests.support.runs import Command


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


@pytest.mark.parametrize("command", ["run", "fred"])
def test_door__the_private_file_as_public__is_refused_before_anything_is_made(
    command: str, called: Command, private_file: Path, public_file: Path, tmp_path: Path
) -> None:
    public = (
        ["--public", private_file] if command == "run" else ["--public-set", private_file, "--public-set", public_file]
    )
    code, _, err = called(
        command,
        "--private",
        private_file,
        *public,
        "--out",
        tmp_path / "out",
        "--epsilon",
        "1",
        "--set",
        "privacy.clients=50",
    )
    assert code == 2
    assert str(private_file) in err
    assert not (tmp_path / "out").exists() and open_ledger().names() == []
