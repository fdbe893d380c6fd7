"""The entry point: one sentence and an exit code for every mistake, error and signal. Words are in golden/."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import pretext.jobs.run
from pretext.errors import Interrupted, ModelError, PretextError, UsageError
from privacy import BudgetExceeded, LedgerConflict, PrivacyError
from tests.cli.conftest import count_releases, is_sentence
from tests.support.runs import Command


def test_help_is_quick() -> None:
    """Not a timed test: it looks at what is imported."""
    code = "import sys; sys.argv = ['pretext', '--help']\n"
    code += "try:\n import pretext.cli; pretext.cli.main()\nfinally:\n print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("torch", "numpy", "pydantic", "transformers", "faiss", "datasets", "rich", "opendp"):
        assert f"'{heavy}'" not in modules


BAD = {
    "missing file": (["--private", "nowhere.jsonl"], "nowhere.jsonl"),
    "missing column": (["--text-column", "body"], "'body'"),
    "missing client column": (["--client-column", "user"], "'user'"),
    "epsilon 0": (["--epsilon", "0"], "privacy.epsilon"),
    "epsilon negative": (["--epsilon", "-1"], "privacy.epsilon"),
    "epsilon nan": (["--epsilon", "nan"], "privacy.epsilon"),
    "epsilon infinite": (["--epsilon", "inf"], "privacy.epsilon"),
    "delta 0": (["--delta", "0"], "privacy.delta"),
    "delta 1": (["--delta", "1"], "privacy.delta"),
    "unknown key": (["--set", "privacy.epsilom=1"], "did you mean privacy.epsilon"),
    "no value": (["--set", "privacy.epsilon"], "privacy.epsilon"),
    "unknown preset": (["--preset", "neurips"], "'neurips'"),
    "relation": (["--relation", "swap"], "add/remove"),
    "unknown flag": (["--epsilonn", "1"], "--epsilonn"),
    "not a number": (["--epsilon", "many"], "'many'"),
    "public file missing": (["--public", "nowhere.csv"], "nowhere.csv"),
    "labels not listed": (["--label-column", "client_id"], "labels"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_use_is_one_sentence_and_exit_2(
    case: str, pretext_command: Command, arguments: list[str], tmp_path: Path
) -> None:
    extra, name = BAD[case]
    code, out, err = pretext_command("run", *arguments, *extra)
    assert code == 2
    assert name in err
    assert out == ""
    assert is_sentence(err)
    assert not (tmp_path / "run").exists()


PHASES = {
    "initial": ("pretext.jobs.run", "make_initial_population"),
    "read": ("pretext.clients.private_data", "_sample_per_client"),
    "vote": ("pretext.clients.voting", "find_nearest"),
    "select": ("pretext.evolution.loop", "select_round"),
    "vary": ("pretext.evolution.variation", "extract_answer"),
    "expand": ("pretext.evolution.expansion", "extract_answer"),
    "save": ("pretext.run.folder", "_population_file"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_interrupted_in_any_phase_is_exit_4_and_resumes(
    phase: str, pretext_command: Command, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    module, name = PHASES[phase]

    def interrupt(*positional: object, **named: object) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module(module), name, interrupt)
        code, _, err = pretext_command("run", *arguments)
    assert code == 4
    assert f"pretext resume {tmp_path / 'run'}" in err
    assert pretext_command("resume", tmp_path / "run")[0] == 0
    assert count_releases(pretext_command) == 2


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_run__a_signal_to_end__is_exit_4_and_resumes(
    name: str, pretext_command: Command, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pretext.evolution.loop.select_round", lambda *_: signal.raise_signal(getattr(signal, name)))
        code, _, err = pretext_command("run", *arguments)
    assert code == 4
    assert f"pretext resume {tmp_path / 'run'}" in err
    assert pretext_command("resume", tmp_path / "run")[0] == 0
    assert count_releases(pretext_command) == 2


def test_run__hang_up_under_nohup__goes_on(
    pretext_command: Command, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nohup` starts a program with SIGHUP ignored."""
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    real = pretext.jobs.run.synthesize

    def hang_up(*positional: Any, **named: Any) -> Any:
        signal.raise_signal(signal.SIGHUP)
        return real(*positional, **named)

    monkeypatch.setattr(pretext.jobs.run, "synthesize", hang_up)
    try:
        assert pretext_command("run", *arguments)[0] == 0
    finally:
        signal.signal(signal.SIGHUP, handler)


@pytest.mark.parametrize("error", [UsageError, ModelError, Interrupted, PrivacyError, BudgetExceeded, LedgerConflict])
def test_main__an_error_of_ours__ends_with_the_exit_code_of_its_class(
    error: type[PretextError], pretext_command: Command, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*positional: object, **named: object) -> object:
        raise error("A sentence.")

    monkeypatch.setattr(pretext.jobs.run, "synthesize", fail)
    code, out, err = pretext_command("run", *arguments)
    assert (code, out) == (error.exit_code, "")
    assert err.endswith("A sentence.\n")
    assert code in (1, 2, 3, 4)


@pytest.mark.slow
def test_a_real_sigterm_is_resumable(tmp_path: Path, private_file: Path, public_file: Path) -> None:
    """A real process with the real embedder and generator, ended from outside while it loads or works."""
    out = tmp_path / "run"
    flags = [
        "--private",
        private_file,
        "--client-column",
        "client_id",
        "--public",
        public_file,
        "--epsilon",
        "20",
        "--out",
        out,
    ]
    flags += ["--delta", "1e-3", "--set", "evolution.population=24"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pretext", "run", *map(str, flags)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (out / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    try:
        process.send_signal(signal.SIGTERM)
        try:
            _, err = process.communicate(timeout=100)
        except subprocess.TimeoutExpired:  # Python loses a signal that falls into a callback of an import
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 4, err
    assert "pretext resume" in err
