"""The student `tiny` and the command that makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretext.evaluation.student import open_student, tiny_folder
from pretext.evaluation.tiny import END, START, make_untrained_student
from tests.support.runs import WORDS, Command, write_rows

pytestmark = pytest.mark.slow

TEXTS = [f"{first} {second} {third}" for first in WORDS[:6] for second in WORDS[5:12] for third in WORDS[8:14]]


def test_it_is_small_and_reads_any_bytes() -> None:
    student = make_untrained_student(TEXTS)
    assert 3_000_000 < sum(value.numel() for value in student.module.parameters()) < 5_000_000
    for text in (START, END, "läuft", "\N{SNOWMAN}\n\t", "".join(map(chr, range(1, 120)))):
        ids = student.encode([text])[0]
        assert student.tokenizer.decode(ids[1:-1]) == text
    twin = make_untrained_student(TEXTS)
    assert all((a == b).all() for a, b in zip(student.module.parameters(), twin.module.parameters(), strict=True))


def test_student__public_texts__makes_a_student_that_can_be_opened(called: Command, tmp_path: Path, home: Path) -> None:
    file = write_rows(tmp_path / "public.jsonl", [{"text": text} for text in TEXTS])
    code, out, _ = called("student", file, "--tokens", 3000)
    assert code == 0
    assert tiny_folder().is_relative_to(home)
    assert str(tiny_folder()) in out
    assert "public.jsonl, held out: top-1" in out
    before, after = make_untrained_student(TEXTS), open_student("tiny")
    assert after.score(TEXTS).cross_entropy < before.score(TEXTS).cross_entropy - 1


def test_student__a_folder_with_other_things_in_it__is_refused_and_untouched(called: Command, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "public.jsonl", [{"text": text} for text in TEXTS])
    (tmp_path / "config.json").write_text("{}")  # as many programs have one
    for place in (tmp_path, file):
        code, out, err = called("student", file, "--tokens", 500, "--folder", place)
        assert (code, out) == (2, "")
        assert str(place) in err
        assert len(file.read_text().splitlines()) == len(TEXTS)


def test_student__again__replaces_the_student(called: Command, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "public.jsonl", [{"text": text} for text in TEXTS])
    (tmp_path / "own").mkdir()
    for _ in range(2):
        assert called("student", file, "--tokens", 500, "--folder", tmp_path / "own")[0] == 0
        assert (tmp_path / "own" / "config.json").is_file()


def test_student__a_file_that_is_missing__is_wrong_use(called: Command) -> None:
    code, out, err = called("student", "nowhere.jsonl")
    assert (code, out) == (2, "")
    assert "nowhere.jsonl" in err
    assert not tiny_folder().exists()
