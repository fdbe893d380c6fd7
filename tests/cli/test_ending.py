"""How commands end where a stream, an argument or the program itself is at fault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pretext.jobs.plan
from tests.support.runs import Command


class Panic(BaseException):
    """What a library in Rust raises where it fails."""


PRETEXT = [sys.executable, "-m", "pretext"]


@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
@pytest.mark.parametrize(("arguments", "code"), [("--help", 1), ("ledger", 1), ("init new.toml", 0)])
def test_command__without_an_output__says_so(redirection: str, arguments: str, code: int, tmp_path: Path) -> None:
    command = f"{' '.join(PRETEXT)} {arguments} {redirection}"
    ended = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == code
    assert len(ended.stderr.splitlines()) == 1
    assert "Standard output" in ended.stderr


def test_argument__that_is_no_utf8__is_refused(called: Command) -> None:
    code, out, err = called("run", "--private", os.fsdecode(b"caf\xe9.jsonl"))
    assert (code, out) == (2, "")
    assert r"caf\xe9.jsonl" in err


@pytest.mark.parametrize("error", [ValueError, RecursionError, Panic])
def test_command__with_a_fault_in_it__names_class_and_place_and_quotes_nothing(
    error: type[BaseException], called: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: object) -> None:
        secret = "a private text"
        raise error(secret)

    monkeypatch.setattr(pretext.jobs.plan, "make_plan", fail)
    code, out, err = called("plan", "--epsilon", "1", "--prompt", "a word")
    assert (code, out) == (1, "")
    assert error.__name__ in err
    assert "test_ending.py" in err
    assert "secret" not in err
    assert "private text" not in err


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments", [("init", LONG), ("export", "run", "--to", f"{LONG}.csv"), ("fred", "--plan", "--out", LONG)]
)
def test_command__where_the_system_refuses_a_name__is_one_sentence(arguments: tuple[str, ...], called: Command) -> None:
    code, out, err = called(*arguments)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert LONG in err


def test_command__with_an_error_of_the_network_in_it__quotes_nothing(
    called: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: object) -> None:
        raise ConnectionError("a private text")

    monkeypatch.setattr(pretext.jobs.plan, "make_plan", fail)
    code, _, err = called("plan", "--epsilon", "1", "--prompt", "a word")
    assert code == 1
    assert "private text" not in err


def test_name__with_control_characters__reaches_no_terminal(called: Command) -> None:
    code, _, err = called("ledger", "show", "a\x1b]0;title\x07\u202eb\rc")
    assert code != 0
    assert not {"\x1b", "\x07", "\u202e", "\r"} & set(err)
