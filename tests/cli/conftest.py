"""A small run on the command line, with the scripted engine behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pretext.config.settings import Config
from pretext.jobs.parts import Parts
from tests.support.runs import Command, make_parts


@pytest.fixture
def pretext_command(monkeypatch: pytest.MonkeyPatch, called: Command) -> Command:
    """Calls the entry point, with the scripted engine behind it."""
    real = Parts.of  # the audit brings models and rows of its own

    def of(cls: type[Parts], config: Config, rows: Any = None, models: Any = None) -> Parts:
        return make_parts(config) if models is None else real(config, rows, models)

    monkeypatch.setattr(Parts, "of", classmethod(of))
    return called


@pytest.fixture
def arguments(private_file: Path, public_file: Path, tmp_path: Path) -> list[str]:
    """A small run."""
    sets = ["evolution.population=24", "evolution.threshold=0.5", "privacy.rounds=2", "speed.chunk=8"]
    flags = ["--private", private_file, "--client-column", "client_id", "--public", public_file, "--epsilon", "5"]
    flags += ["--delta", "1e-3", "--texts", "10", "--out", tmp_path / "run"]
    return [*map(str, flags), *(part for setting in sets for part in ("--set", setting))]


def is_sentence(text: str) -> bool:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return bool(lines) and "Traceback" not in text and lines[-1].rstrip().endswith((".", "?", "?)"))


def count_releases(pretext_command: Command) -> int:
    return len(json.loads(pretext_command("ledger", "show", "private", "--json")[1])["releases"])
