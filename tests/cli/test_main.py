"""The command line: output, exit codes, one sentence for every mistake."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import pretext.jobs.run
from pretext.jobs.parts import Parts
from tests.support.runs import Command, make_parts, rows_of, write_rows


@pytest.fixture
def pretext_command(monkeypatch: pytest.MonkeyPatch, called: Command) -> Command:
    """Calls the entry point, with the scripted engine behind it."""
    monkeypatch.setattr(Parts, "of", classmethod(lambda cls, config, rows=None: make_parts(config)))
    return called


@pytest.fixture
def arguments(private_file: Path, public_file: Path, tmp_path: Path) -> list[str]:
    """A small run."""
    sets = ["evolution.population=24", "evolution.threshold=0.5", "privacy.rounds=2", "speed.chunk=8"]
    flags = ["--private", private_file, "--client-column", "client_id", "--public", public_file, "--epsilon", "5"]
    flags += ["--delta", "1e-3", "--texts", "10", "--out", tmp_path / "run"]
    return [*map(str, flags), *(part for setting in sets for part in ("--set", setting))]


def _one_sentence(text: str) -> bool:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return bool(lines) and "Traceback" not in text and lines[-1].rstrip().endswith((".", "?", "1e-06", "0.001"))


def test_help_is_quick() -> None:
    """Not a timed test: it looks at what is imported."""
    code = "import sys; sys.argv = ['pretext', '--help']\n"
    code += "try:\n import pretext.cli; pretext.cli.cli()\nfinally:\n print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("torch", "numpy", "pydantic", "transformers", "faiss", "datasets", "rich", "opendp"):
        assert f"'{heavy}'" not in shown
    for command in ("init", "plan", "run", "resume", "expand", "ledger", "report", "export"):
        assert command in shown


def test_run_resume_expand_and_ledger(pretext_command: Command, arguments: list[str], tmp_path: Path) -> None:
    code, out, err = pretext_command("run", *arguments)
    assert code == 0, err
    assert "differential privacy" in out
    assert "unit client" in out
    assert "relation add/remove" in out
    assert str(tmp_path / "home") in out
    rows = [json.loads(line) for line in (tmp_path / "run" / "synthetic.jsonl").read_text().splitlines()]
    assert len(rows) == 10
    assert all(row["text"] for row in rows)
    privacy = json.loads((tmp_path / "run" / "privacy.json").read_text())
    assert privacy["guarantee"]["epsilon"] <= 5
    assert privacy["rounds_released"] == 2
    assert {entry["relation"] for entry in privacy["other_relation"]} == {"replace-one"}
    assert privacy["not_covered"]

    assert pretext_command("resume", tmp_path / "run", "--set", "speed.batch_size=2")[0] == 0
    code, out, _ = pretext_command("expand", tmp_path / "run", "--texts", "15")
    assert code == 0
    assert len(Path(out.strip()).read_text().splitlines()) == 15
    code, out, _ = pretext_command("ledger", "show", "private", "--json")
    assert code == 0
    assert len(json.loads(out)["releases"]) == 2
    code, out, _ = pretext_command("ledger")
    assert code == 0
    assert "private: budget epsilon 5" in out


def test_over_budget_is_exit_3_and_draws_nothing(
    pretext_command: Command, arguments: list[str], tmp_path: Path
) -> None:
    assert pretext_command("run", *arguments)[0] == 0
    other = [*arguments, "--out", str(tmp_path / "second")]
    code, _, err = pretext_command("run", *other)
    assert code == 3
    assert "asked is epsilon 5" in err
    assert "left is 0" in err
    assert "pretext ledger budget private --epsilon" in err
    assert len(json.loads(pretext_command("ledger", "show", "private", "--json")[1])["releases"]) == 2
    # The remedy it names works.
    remedy = err[err.index("pretext ledger budget") :].split()[1:]
    assert pretext_command(*remedy)[0] == 0
    assert pretext_command("resume", tmp_path / "second")[0] == 0


def test_another_name_for_the_same_path_is_refused(
    pretext_command: Command, arguments: list[str], tmp_path: Path
) -> None:
    assert pretext_command("run", *arguments)[0] == 0
    renamed = [*arguments, "--set", "privacy.dataset=fresh", "--out", str(tmp_path / "second")]
    code, _, err = pretext_command("run", *renamed)
    assert code == 2
    assert "second budget" in err
    assert pretext_command("run", *renamed, "--confirm-new-name")[0] == 0


def test_init_writes_a_file_that_plans(pretext_command: Command, tmp_path: Path) -> None:
    file = tmp_path / "pretext.toml"
    for preset in ("default", "icml2024"):
        assert pretext_command("init", file, "--preset", preset, "--force")[0] == 0
        assert tomllib.loads(file.read_text())["preset"] == preset
        code, out, err = pretext_command("plan", file)
        assert code == 0, err
        assert "Noise per candidate" in out
    assert "1.189" in out
    code, _, err = pretext_command("init", file)
    assert code == 2
    assert "--force" in err


def test_plan_touches_nothing_private(pretext_command: Command, arguments: list[str], private_file: Path) -> None:
    private_file.unlink()
    code, out, err = pretext_command("plan", *arguments[: arguments.index("--out")], "--set", "privacy.clients=60")
    assert code == 0, err
    assert "unit client, relation add/remove" in out
    code, out, _ = pretext_command("plan", *arguments[: arguments.index("--out")], "--json")
    assert json.loads(out)["epsilon"] <= 5


BAD = {
    "missing file": (["--private", "nowhere.jsonl"], "no file"),
    "missing column": (["--text-column", "body"], "no column 'body'"),
    "missing client column": (["--client-column", "user"], "no column 'user'"),
    "epsilon 0": (["--epsilon", "0"], "privacy.epsilon"),
    "epsilon negative": (["--epsilon", "-1"], "privacy.epsilon"),
    "epsilon nan": (["--epsilon", "nan"], "privacy.epsilon"),
    "epsilon infinite": (["--epsilon", "inf"], "privacy.epsilon"),
    "delta 0": (["--delta", "0"], "privacy.delta"),
    "delta 1": (["--delta", "1"], "privacy.delta"),
    "unknown key": (["--set", "privacy.epsilom=1"], "did you mean privacy.epsilon"),
    "no value": (["--set", "privacy.epsilon"], "no value"),
    "unknown preset": (["--preset", "neurips"], "no preset"),
    "relation": (["--relation", "swap"], "add/remove"),
    "unknown flag": (["--epsilonn", "1"], "No such option"),
    "not a number": (["--epsilon", "many"], "not a valid float"),
    "public file missing": (["--public", "nowhere.csv"], "no file"),
    "labels not listed": (["--label-column", "client_id"], "labels"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_use_is_one_sentence_and_exit_2(
    case: str, pretext_command: Command, arguments: list[str], tmp_path: Path
) -> None:
    extra, words = BAD[case]
    code, out, err = pretext_command("run", *arguments, *extra)
    assert code == 2
    assert words in err
    assert out == ""
    assert _one_sentence(err) or "Usage:" in err
    assert not (tmp_path / "run").exists()


def _file(tmp_path: Path, content: bytes) -> list[str]:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    return ["--private", str(path)]


BAD_FILES = {
    "empty": (b"", "is empty"),
    "only blank texts": (
        b'{"text": " ", "client_id": "a"}\n{"text": "", "client_id": "b"}\n',
        "fewer than two clients",
    ),
    "non-string texts": (b'{"text": 5, "client_id": "a"}\n{"text": 6, "client_id": "b"}\n', "fewer than two clients"),
    "one client": (b'{"text": "a b c d", "client_id": "a"}\n' * 5, "fewer than two clients"),
    "invalid UTF-8": (b'{"text": "caf\xe9 au lait", "client_id": "a"}\n' * 3, "UTF-8"),
    "not JSON": (b"this is not json\n", "cannot be read as jsonl"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_unusable_private_files(case: str, pretext_command: Command, arguments: list[str], tmp_path: Path) -> None:
    content, words = BAD_FILES[case]
    code, _, err = pretext_command("run", *arguments, *_file(tmp_path, content))
    assert code == 2
    assert words in err
    assert _one_sentence(err)
    assert "lait" not in err


def test_odd_but_usable_texts(pretext_command: Command, arguments: list[str], tmp_path: Path) -> None:
    """A text of 100,000 characters, NUL bytes, emoji, right-to-left, one client with most of the texts."""
    rows = rows_of()
    rows += [{"client_id": "c0", "text": "a great many of one client's texts"}] * 500
    for number, text in enumerate(
        [
            "x " * 50_000,
            "nul \0 byte in here",
            "\U0001f600 \U0001f680",
            "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
        ]
    ):
        rows.append({"client_id": f"odd{number}", "text": text})
    path = write_rows(tmp_path / "odd.jsonl", rows)
    code, _, err = pretext_command("run", *arguments, "--private", path)
    assert code == 0, err


def test_more_rounds_than_the_budget_holds(pretext_command: Command, arguments: list[str]) -> None:
    code, _, err = pretext_command("run", *arguments, "--set", "privacy.budget_epsilon=2")
    assert code == 3
    assert "of 2, left is 2." in err or "left is 1.99" in err


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_corrupted_ledger(damage: bytes, pretext_command: Command, arguments: list[str], home: Path) -> None:
    home.mkdir()
    (home / "ledger.sqlite").write_bytes(damage)
    code, _, err = pretext_command("run", *arguments)
    assert code == 1
    assert "damaged" in err
    assert (home / "ledger.sqlite").read_bytes() == damage


def test_a_locked_ledger(
    pretext_command: Command, arguments: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    from privacy import Ledger

    Ledger(home / "ledger.sqlite")
    monkeypatch.setattr(pretext.jobs.run, "open_ledger", lambda: Ledger(home / "ledger.sqlite", patience=0.2))
    other = sqlite3.connect(home / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    code, _, err = pretext_command("run", *arguments)
    other.close()
    assert code == 1
    assert "locked by another process" in err
    assert pretext_command("run", *arguments)[0] == 0


PHASES = {
    "initial": ("pretext.jobs.run", "make_initial_population"),
    "read": ("pretext.clients.private_data", "_sample_per_client"),
    "vote": ("pretext.clients.voting", "find_nearest"),
    "select": ("pretext.evolution.loop", "select_round"),
    "vary": ("pretext.evolution.variation", "extract_answer"),
    "expand": ("pretext.evolution.expansion", "extract_answer"),
    "save": ("pretext.run.folder", "asdict"),
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
    assert len(json.loads(pretext_command("ledger", "show", "private", "--json")[1])["releases"]) == 2


def test_expand_in_shards_interrupted_and_continued(
    pretext_command: Command, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pretext.evolution.expansion

    folder, sharded = tmp_path / "run", ["--set", "expansion.shard_texts=8", "--set", "expansion.format=parquet"]
    code, out, _ = pretext_command("run", *arguments, *sharded)
    assert code == 0 and str(folder / "synthetic") in out

    def interrupt(*positional: object) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretext.evolution.expansion, "extract_answer", interrupt)
        code, _, err = pretext_command("expand", folder, "--texts", "20")
    assert code == 4
    assert f"pretext expand {folder} --texts 20" in err
    code, out, _ = pretext_command("expand", folder, "--texts", "20")
    assert code == 0
    assert [path.name for path in sorted(Path(out.strip()).iterdir())] == [f"{n:05}.parquet" for n in range(3)]
    code, _, err = pretext_command("expand", folder, "--texts", "30", "--set", "expansion.shard_texts=9")
    assert code == 2
    assert "Only speed settings may change in an existing run, not expansion.shard_texts" in err


def test_expand_of_an_unfinished_run(
    pretext_command: Command, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pretext.evolution.variation

    def interrupt(*positional: object) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretext.evolution.variation, "extract_answer", interrupt)
        assert pretext_command("run", *arguments)[0] == 4
    code, _, err = pretext_command("expand", tmp_path / "run", "--texts", "20")
    assert code == 1
    assert f"finish the run with `pretext resume {tmp_path / 'run'}`" in err


def test_resume_of_no_run(pretext_command: Command, tmp_path: Path) -> None:
    code, _, err = pretext_command("resume", tmp_path / "nowhere")
    assert code == 1
    assert "not a run folder" in err


def test_resume_refuses_other_settings(pretext_command: Command, arguments: list[str], tmp_path: Path) -> None:
    pretext_command("run", *arguments)
    code, _, err = pretext_command("resume", tmp_path / "run", "--set", "privacy.epsilon=30")
    assert code == 2
    assert "privacy.epsilon" in err


def test_unknown_dataset(pretext_command: Command) -> None:
    code, _, err = pretext_command("ledger", "show", "nobody")
    assert code == 2
    assert "no dataset 'nobody'" in err


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


def test_report_and_export(pretext_command: Command, arguments: list[str], tmp_path: Path) -> None:
    folder, page, table = tmp_path / "run", tmp_path / "report.html", tmp_path / "texts.csv"
    assert pretext_command("run", *arguments)[0] == 0
    assert pretext_command("report", folder, "--out", page)[:2] == (0, f"{page}\n")
    assert "Is it any good?" in page.read_text(encoding="utf-8")
    assert pretext_command("export", folder, "--to", table)[:2] == (0, f"{table}\n")
    assert len(table.read_text(encoding="utf-8").splitlines()) == 11
    assert pretext_command("export", folder, "--to-dataset", tmp_path / "set")[0] == 0
    for wrong, words in (
        (["export", folder], "Give either --to FILE"),
        (["export", folder, "--to", table], "is there already"),
        (["report", folder, "--out", tmp_path], "cannot be written"),
        (["report", folder, "--evaluation", table], "cannot be read as JSON"),
    ):
        code, _, err = pretext_command(*wrong)
        assert code == 2
        assert words in err
        assert _one_sentence(err)
    assert pretext_command("report", tmp_path)[0] == 1
