"""The memorization check: it finds a planted copy, shows counts alone, and leaves nothing behind."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

import pretext
from pretext.config.settings import Config
from pretext.errors import RunFolderError, UsageError
from pretext.evaluation.memorization import check_memorization
from pretext.jobs.parts import Parts
from pretext.jobs.run import synthesize
from pretext.run.folder import Run
from tests.jobs.test_leak import _everything, _found
from tests.support.runs import HashEmbedder, call_main, make_parts, reply, rows_of, write_rows

Make = Callable[..., Config]
WORDS_OF_COPY = 16


@pytest.fixture
def run(make_config: Make, tmp_path: Path) -> Run:
    config = make_config()
    return synthesize(config, tmp_path / "run", make_parts(config))


@pytest.fixture
def marks(private_file: Path, run: Run) -> list[str]:
    """A private text of sixteen words that nobody else knows, and a synthetic copy of it."""
    words = [f"secret{secrets.token_hex(6)}" for _ in range(WORDS_OF_COPY)]
    write_rows(private_file, [*rows_of(), {"client_id": "c1", "text": " ".join(words)}])
    with (run.folder / "synthetic.jsonl").open("a") as file:
        file.write(json.dumps({"text": "Well: " + " ".join(words).upper()}) + "\n")
    return words


def test_a_planted_copy_is_found(run: Run, marks: list[str]) -> None:
    # So many dimensions that the word before the copy hardly turns it.
    check = check_memorization(run.folder, embed=HashEmbedder(256))
    assert check.private.texts == 31
    assert check.private.longest == WORDS_OF_COPY
    assert (check.private.words[13], check.private.words[20]) == (1, 0)
    assert check.private.cosines[0.95] >= 1
    assert check.public.words[13] == check.control.words[13] == 0
    assert "13 or more words in a row" in check.alarms


def test_without_a_copy_there_is_no_alarm(run: Run) -> None:
    """Texts of sixteen common words: short runs are shared by chance, by the control group too, long ones are not."""
    check = check_memorization(run.folder)
    assert check.private.words[13] == 0
    assert check.private.longest >= 1
    assert check.private.cosines == {}
    assert check.alarms == []
    assert check.control.texts == len(run.population(0) or [])


def test_what_a_control_group_repeats_as_well_raises_no_alarm(run: Run, make_config: Make, marks: list[str]) -> None:
    """A phrase of everybody's: the generator writes it without private influence."""
    phrase = "Well: " + " ".join(marks).upper()
    numbers = iter(range(10_000))
    engine = make_parts(make_config()).engine()
    engine._reply = lambda prompt, rng: f"{phrase} {next(numbers)}"  # type: ignore[attr-defined]
    check = check_memorization(run.folder, embed=HashEmbedder(), engine=engine, control=40)
    assert check.control.texts == 40
    assert check.control.words[13] == 40
    assert "13 or more words in a row" not in check.alarms
    engine._reply = reply  # type: ignore[attr-defined]
    assert "13 or more words in a row" in check_memorization(run.folder, engine=engine, control=40).alarms


def test_texts_that_did_not_vote_are_compared_too(make_config: Make, tmp_path: Path, private_file: Path) -> None:
    """With one text a client, a copy of any of its hundred texts is found."""
    config = make_config("privacy.max_texts_per_client=1")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    texts = [" ".join(f"{letter}{number}" for letter in "abcdefghijklmn") for number in range(100)]
    write_rows(private_file, [*rows_of(), *({"client_id": "c1", "text": text} for text in texts)])
    (run.folder / "synthetic.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    assert check_memorization(run.folder).private.words[13] == 100


def test_nothing_is_saved_and_no_text_is_shown(
    run: Run,
    marks: list[str],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    synthetic = run.folder / "synthetic.jsonl"
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with caplog.at_level(logging.DEBUG):
        for flags in ([], ["--json"], ["--no-embedding"], ["--control", "5"]):
            assert _command(monkeypatch, "memorization", run.folder, *flags) == 0
    captured = capfd.readouterr()
    output = [("log", caplog.text.encode()), ("stdout", captured.out.encode()), ("stderr", captured.err.encode())]
    assert _found([mark.casefold() for mark in marks], [(name, text.lower()) for name, text in output]) == []
    assert "NOT PRIVATE" in captured.out and "ALARM" in captured.out
    assert _found(marks, _everything(home, tmp_path / "temporary")) == []
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
    assert marks[0].upper() in synthetic.read_text()  # the search would have found it


def test_mistakes_are_one_sentence(
    run: Run,
    private_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert _command(monkeypatch, "memorization", tmp_path / "nowhere") == 1
    assert "is not a run folder" in capfd.readouterr().err
    assert _command(monkeypatch, "memorization", run.folder, "--set", "privacy.epsilon=9") == 2
    assert "Only speed settings" in capfd.readouterr().err
    private_file.unlink()
    assert _command(monkeypatch, "memorization", run.folder) == 2
    assert "There is no file" in capfd.readouterr().err
    (run.folder / "synthetic.jsonl").unlink()
    with pytest.raises(RunFolderError, match="no synthetic texts yet"):
        check_memorization(run.folder)


def test_private_texts_from_memory_are_handed_over(
    public_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Parts.of.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr("pretext.jobs.parts._open_embedder", lambda models, speed: HashEmbedder())

    def of(cls: type[Parts], config: Config, rows: object = None) -> Parts:
        scripted = make_parts(config)
        return Parts(scripted.engine, scripted.embedder, scripted.variation, real(cls, config, rows).federation)

    monkeypatch.setattr(Parts, "of", classmethod(of))
    result = pretext.synthesize(
        rows_of(), client_column="client_id", epsilon=20, delta=1e-3, public=public_file, dataset="notes",
        out=tmp_path / "run", settings={"expansion": {"texts": 5}, "evolution": {"population": 24, "threshold": 0.5}},
    )  # fmt: skip
    with pytest.raises(UsageError, match="came from memory"):
        result.check_memorization()
    assert result.check_memorization(rows_of()).private.texts == 5


def _command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(Parts, "of", classmethod(lambda cls, config, rows=None: make_parts(config)))
    return call_main(monkeypatch, *arguments)
