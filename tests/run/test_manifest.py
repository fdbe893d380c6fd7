"""The manifest lists what is part of the result, and nothing else; the ledger holds its digest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pretext.config.settings import Config
from pretext.errors import RunFolderError
from pretext.home import open_ledger
from pretext.jobs.run import synthesize
from pretext.run.folder import Run
from pretext.run.manifest import MANIFEST, Manifest, file_digest, read_contents, read_manifest
from tests.support.runs import make_parts


@pytest.fixture
def run(make_config: Callable[..., Config], tmp_path: Path) -> Run:
    config = make_config("privacy.rounds=2", "expansion.texts=20", "expansion.shard_texts=8")
    return synthesize(config, tmp_path / "run", make_parts(config))


def test_the_files_of_the_result_are_listed(run: Run) -> None:
    strays = ("report.html", ".privacy.json.tmp", "synthetic/.00009.jsonl", "selected/001 (copy).json", "private.jsonl")
    for beside in ("synthetic.00003.part", *strays):
        (run.folder / beside).write_text("not of the result")
    (run.folder / "population" / "009.json").symlink_to("009.json")
    os.mkfifo(run.folder / "population" / "010.json")
    (run.folder / "synthetic" / "more").mkdir()
    assert read_contents(run.folder).strays == dict.fromkeys(strays, "an unknown file") | {
        "population/009.json": "a link",
        "population/010.json": "no regular file",
        "synthetic/more": "a folder",
    }
    listed = json.loads((run.folder / MANIFEST).read_text())
    assert read_manifest(run) == Manifest(run.id, read_contents(run.folder).files)
    assert listed["run"] == run.id
    assert list(listed["files"]) == [
        "README.md",
        "config.toml",
        "expansion.json",
        "population/000.json",
        "population/001.json",
        "positions/000.npy",
        "positions/001.npy",
        "privacy.json",
        "run.json",
        "seeds.jsonl",
        "selected/000.json",
        "selected/001.json",
        "synthetic/00000.jsonl",
        "synthetic/00001.jsonl",
        "synthetic/00002.jsonl",
    ]
    for name, file in listed["files"].items():
        content = (run.folder / name).read_bytes()
        assert file == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def test_the_ledger_holds_the_digest_of_the_last_manifest(run: Run) -> None:
    sealed = open_ledger().account("private").last_seal(run.id)
    assert sealed is not None
    assert sealed.manifest == file_digest(run.folder / MANIFEST)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"run": "a", "files": {"README.md": {"sha256": 1, "bytes": 2}}}']
)
def test_manifest__damaged__is_one_sentence(content: str, run: Run) -> None:
    (run.folder / MANIFEST).write_text(content)
    with pytest.raises(RunFolderError, match=r"manifest\.json"):
        read_manifest(run)
