"""`pretext init`, `plan`, `run`, `resume` and `expand`: exit codes, numbers and paths. Their words are in golden/."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import count_releases, is_sentence
from tests.support.runs import Command, rows_of, write_rows


def test_init_writes_a_file_that_plans(pretext_command: Command, tmp_path: Path) -> None:
    file = tmp_path / "pretext.toml"
    for preset in ("default", "icml2024"):
        assert pretext_command("init", file, "--preset", preset, "--force")[0] == 0
        assert tomllib.loads(file.read_text())["preset"] == preset
        code, out, err = pretext_command("plan", file)
        assert code == 0, err
    assert "1.189" in out  # epsilon of the paper's setting
    assert pretext_command("init", file)[0] == 2


def test_plan_touches_nothing_private(pretext_command: Command, arguments: list[str], private_file: Path) -> None:
    private_file.unlink()
    source = arguments[: arguments.index("--out")]
    code, _, err = pretext_command("plan", *source, "--set", "privacy.clients=60")
    assert code == 0, err
    assert json.loads(pretext_command("plan", *source, "--json")[1])["epsilon"] <= 5


def test_plan__measured__forecasts_time_and_memory(pretext_command: Command, arguments: list[str]) -> None:
    source = [*arguments[: arguments.index("--out")], "--measure"]
    code, out, err = pretext_command("plan", *source)
    assert code == 0, err
    assert "Memory " in out
    forecast = json.loads(pretext_command("plan", *source, "--json")[1])["forecast"]
    assert forecast["memory"] > 0


def test_run_resume_expand_and_ledger(pretext_command: Command, arguments: list[str], tmp_path: Path) -> None:
    code, out, err = pretext_command("run", *arguments)
    assert code == 0, err
    assert str(tmp_path / "home") in out
    rows = [json.loads(line) for line in (tmp_path / "run" / "synthetic.jsonl").read_text().splitlines()]
    assert len(rows) == 10
    assert all(row["text"] for row in rows)
    privacy = json.loads((tmp_path / "run" / "privacy.json").read_text())
    assert privacy["guarantee"]["epsilon"] <= 5
    assert privacy["rounds"]["released"] == 2
    assert privacy["other_relation"]["relation"] == "replace-one"
    assert privacy["not_covered"]

    assert pretext_command("resume", tmp_path / "run", "--set", "speed.batch_size=2")[0] == 0
    code, out, _ = pretext_command("expand", tmp_path / "run", "--texts", "15")
    assert code == 0
    assert len(Path(out.strip()).read_text().splitlines()) == 15
    assert count_releases(pretext_command) == 2
    code, out, _ = pretext_command("ledger")
    assert code == 0
    assert "private: " in out


def test_over_budget_is_exit_3_and_draws_nothing(
    pretext_command: Command, arguments: list[str], tmp_path: Path
) -> None:
    assert pretext_command("run", *arguments)[0] == 0
    code, _, err = pretext_command("run", *arguments, "--out", tmp_path / "second")
    assert code == 3
    assert "asked is epsilon 5" in err
    assert "left is 0" in err
    assert count_releases(pretext_command) == 2
    # The remedy that the message names works.
    remedy = err[err.index("pretext ledger budget") :].split()[1:]
    assert pretext_command(*remedy)[0] == 0
    assert pretext_command("resume", tmp_path / "second")[0] == 0


def test_another_name_for_the_same_path_is_refused(
    pretext_command: Command, arguments: list[str], tmp_path: Path
) -> None:
    assert pretext_command("run", *arguments)[0] == 0
    renamed = [*arguments, "--set", "privacy.dataset=fresh", "--out", str(tmp_path / "second")]
    assert pretext_command("run", *renamed)[0] == 2
    assert pretext_command("run", *renamed, "--confirm-new-name")[0] == 0


BAD_FILES = {
    "empty": b"",
    "only blank texts": b'{"text": " ", "client_id": "a"}\n{"text": "", "client_id": "b"}\n',
    "non-string texts": b'{"text": 5, "client_id": "a"}\n{"text": 6, "client_id": "b"}\n',
    "one client": b'{"text": "a b c d", "client_id": "a"}\n' * 5,
    "invalid UTF-8": b'{"text": "caf\xe9 au lait", "client_id": "a"}\n' * 3,
    "not JSON": b"this is not json, au lait\n",
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_unusable_private_files(case: str, pretext_command: Command, arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(BAD_FILES[case])
    code, _, err = pretext_command("run", *arguments, "--private", path)
    assert code == 2
    assert str(path) in err
    assert is_sentence(err)
    assert "lait" not in err  # no word of a private text


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
    assert pretext_command("run", *arguments, "--set", "privacy.budget_epsilon=2")[0] == 3
    assert count_releases(pretext_command) == 0


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
    assert "expansion.shard_texts" in err


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
    assert f"pretext resume {tmp_path / 'run'}" in err


def test_resume_of_no_run(pretext_command: Command, tmp_path: Path) -> None:
    code, _, err = pretext_command("resume", tmp_path / "nowhere")
    assert code == 1
    assert str(tmp_path / "nowhere") in err


def test_resume_refuses_other_settings(pretext_command: Command, arguments: list[str], tmp_path: Path) -> None:
    pretext_command("run", *arguments)
    code, _, err = pretext_command("resume", tmp_path / "run", "--set", "privacy.epsilon=30")
    assert code == 2
    assert "privacy.epsilon" in err
