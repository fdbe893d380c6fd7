"""One page, in which every number that somebody signs stands, rounded to the worse side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pretext.config.settings import Config
from pretext.errors import UsageError
from pretext.jobs.run import synthesize
from pretext.run.folder import Run
from pretext.run.privacy_statement import PrivacyStatement
from pretext.statement.signature_page import PAGE_WIDTH, render_signature_page, write_signature_page
from privacy.rounding import round_up
from tests.support.runs import make_parts


@pytest.fixture
def folder(make_config: Callable[..., Config], tmp_path: Path) -> Path:
    config = make_config("privacy.epsilon=2", "privacy.budget_epsilon=3", "evolution.threshold=0")
    return synthesize(config, tmp_path / "run", make_parts(config)).folder


def read_statement(folder: Path) -> PrivacyStatement:
    return Run.open(folder)[0].require_statement()


def test_the_page(folder: Path) -> None:
    statement = read_statement(folder)
    text = render_signature_page(statement, folder)
    plain = " ".join(text.split())
    guarantee, second, dataset = statement.guarantee, statement.other_relation, statement.dataset
    for words in (
        "all texts of one client, as told apart by the column 'client_id'",
        f"epsilon {round_up(guarantee.epsilon)} at delta 0.001, relation add/remove",
        f"epsilon {round_up(second.epsilon)} at delta 0.001, relation replace-one",
        "3 of 3 rounds of votes",
        "epsilon 3 at delta 0.001, relation add/remove, is guaranteed",
        f"{round_up(dataset.spent_epsilon)} spent in 3 releases",
        f"pretext privacy verify {folder}",
        dataset.ledger_head_sha256,
        "Name ____",
        "Date ____",
        "Signature ____",
        *(" ".join(line.split()) for line in statement.not_covered),
    ):
        assert words in plain
    assert float(round_up(guarantee.epsilon)) >= guarantee.epsilon


def test_it_is_one_page(folder: Path) -> None:
    """Of A4 at ten points: 62 lines, and 96 columns but for paths that are longer."""
    lines = render_signature_page(read_statement(folder), Path("run")).splitlines()
    assert len(lines) <= 58
    assert [line for line in lines if len(line) > PAGE_WIDTH and "/" not in line] == []


def test_without_a_client_column_it_says_so(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config("privacy.epsilon=5")
    config = config.model_copy(update={"data": config.data.model_copy(update={"client_column": None})})
    run = synthesize(config, tmp_path / "run", make_parts(config))
    text = render_signature_page(read_statement(run.folder), run.folder)
    assert "a person with many records is NOT protected" in " ".join(text.split())
    assert len(text.splitlines()) <= 58


@pytest.mark.parametrize("ending", ["md", "txt"])
def test_it_is_written(ending: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / f"statement.{ending}"
    write_signature_page(read_statement(folder), folder, out)
    assert out.read_text() == render_signature_page(read_statement(folder), folder)


def test_the_statement_itself_is_written(folder: Path, tmp_path: Path) -> None:
    write_signature_page(read_statement(folder), folder, tmp_path / "statement.json")
    assert (tmp_path / "statement.json").read_bytes() == (folder / "privacy.json").read_bytes()


def test_where_it_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in .md, .txt or .json"):
        write_signature_page(read_statement(folder), folder, tmp_path / "statement.pdf")
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        write_signature_page(read_statement(folder), folder, tmp_path / "nowhere" / "statement.md")
