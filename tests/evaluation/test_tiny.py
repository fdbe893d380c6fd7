"""The student `tiny` and the script that makes it."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from pretext.evaluation.student import open_student, tiny_folder
from pretext.evaluation.tiny import END, START, make_untrained_student
from tests.support.runs import WORDS, write_rows

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "pretrain_tiny.py"
TEXTS = [f"{one} {two} {three}" for one in WORDS[:6] for two in WORDS[5:12] for three in WORDS[8:14]]


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_it_is_small_and_reads_any_bytes() -> None:
    student = make_untrained_student(TEXTS)
    assert 3_000_000 < sum(value.numel() for value in student.module.parameters()) < 5_000_000
    for text in (START, END, "läuft", "\N{SNOWMAN}\n\t", "".join(map(chr, range(1, 120)))):
        ids = student.encode([text])[0]
        assert student.tokenizer.decode(ids[1:-1]) == text
    other = make_untrained_student(TEXTS)
    assert all(
        (one == two).all() for one, two in zip(student.module.parameters(), other.module.parameters(), strict=True)
    )


def test_the_script_makes_a_student_that_can_be_opened(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_rows(tmp_path / "public.jsonl", [{"text": text} for text in TEXTS])
    _run(monkeypatch, file, "--tokens", 3000)
    assert tiny_folder().is_relative_to(home)
    said = capsys.readouterr().out
    assert "held out, public.jsonl: Score(" in said
    before, after = (
        make_untrained_student(TEXTS).score(TEXTS).cross_entropy,
        open_student("tiny").score(TEXTS).cross_entropy,
    )
    assert after < before - 1


def test_the_script_tells_a_wrong_file_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"There is no file nowhere\.jsonl"):
        _run(monkeypatch, "nowhere.jsonl")
