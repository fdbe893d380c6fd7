"""A whole run without models: a hashing embedder and a scripted generator, on 60 clients that talk of two things."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretext.audit.canary_texts import HashEmbedder
from pretext.cli import main
from pretext.clients.federation import LocalFederation
from pretext.clients.private_data import read_private
from pretext.clients.voting import Clients
from pretext.config.resolve import resolve
from pretext.config.settings import Config
from pretext.jobs.parts import Parts, open_variation_of
from pretext.lazy import Once
from pretext.models.engines import Engine
from pretext.models.engines.scripted import ScriptedEngine
from pretext.prompts import HEADER, Prompt
from pretext.run.account import AccountReference

Command = Callable[..., tuple[int, str, str]]
ACCOUNT = AccountReference("private", "0" * 32, "/nowhere/ledger.sqlite")
"""Of a run folder without a ledger."""
WORDS = [
    "kernel",
    "driver",
    "screen",
    "boot",
    "disk",
    "mount",
    "sound",
    "network",
    "printer",
    "update",
    "garden",
    "soup",
    "recipe",
    "flower",
    "oven",
    "butter",
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger and a model cache of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("PRETEXT_HOME", str(folder))
    return folder


def reply(prompt: Prompt, rng: np.random.Generator) -> str:
    """Words of the prompt's last sample, shuffled, with a new one."""
    samples = [part.split("\n", 1)[-1].strip() for part in prompt.text.split(HEADER)]
    words = next((sample for sample in reversed(samples) if sample), "some plain words").split()[:10]
    words.append(str(rng.choice(WORDS)))
    return " ".join(rng.permutation(words)) + f"\n\n{HEADER} 5\nrubbish after the next header"


def rows_of(clients: int = 60, label: bool = False) -> list[dict[str, str]]:
    """Two kinds of clients, three texts each."""
    rng = np.random.default_rng(7)
    rows = []
    for client in range(clients):
        kind = client % 2
        for _ in range(3):
            words = rng.choice(WORDS[:10] if kind == 0 else WORDS[10:], 6)
            row = {"client_id": f"c{client}", "text": " ".join(words)}
            rows.append({**row, "label": ["computers", "home"][kind]} if label else row)
    return rows


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def private_file(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "private.jsonl", rows_of())


@pytest.fixture
def public_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    return write_rows(tmp_path / "public.jsonl", [{"text": " ".join(rng.choice(WORDS, 7))} for _ in range(200)])


@pytest.fixture
def make_config(private_file: Path, public_file: Path) -> Callable[..., Config]:
    """A small configuration; overrides as on the command line."""

    def make(*overrides: str) -> Config:
        settings = {
            "data": {"path": str(private_file), "client_column": "client_id"},
            "privacy": {"epsilon": 20.0, "delta": 1e-3, "rounds": 3},
            "initial": {"texts": str(public_file)},
            "evolution": {"population": 24, "threshold": 0.5},
            "expansion": {"texts": 30},
            "speed": {"chunk": 8},
        }
        return resolve(overrides=overrides, settings=settings)

    return make


def make_parts(config: Config, engine: Engine | None = None) -> Parts:
    """The real pipeline with the scripted engine and the hashing embedder in it."""
    chosen = engine or ScriptedEngine(reply)
    return Parts(
        Once(lambda: chosen),
        Once(HashEmbedder),
        Once(lambda: open_variation_of(config, lambda: chosen)),
        LocalFederation(
            lambda: Clients.embed(read_private(config.data, config.privacy.max_texts_per_client), HashEmbedder())
        ),
    )


def call_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Call the entry point as the console script does, and return its exit code. Put the signals' handlers back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr("sys.argv", ["pretext", *map(str, arguments)])
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return int(ended.value.code or 0)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Calls the entry point: exit code, standard output and standard error of this call."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = call_main(monkeypatch, *arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
