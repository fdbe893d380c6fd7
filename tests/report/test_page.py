"""The page as text: what a stranger must find in it, and what must not be in it. How it looks: test_browser."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pretext.config.settings import Config
from pretext.errors import RunFolderError, UsageError
from pretext.home import open_ledger
from pretext.jobs.run import synthesize
from pretext.report.page import write_report
from pretext.run.folder import Run
from pretext.run.privacy_statement import RunCharge
from privacy.rounding import round_down, round_up
from tests.report.conftest import HOSTILE
from tests.support.runs import make_parts, rows_of, write_rows

pytestmark = pytest.mark.slow


def _page(folder: Path) -> str:
    out = folder.parent / "report.html"
    write_report(folder, out)
    return out.read_text(encoding="utf-8")


def _words(page: str) -> str:
    """What a reader sees, roughly."""
    body = re.sub(r"<(style|script)>.*?</\1>", " ", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_a_stranger_finds_the_four_answers(finished: Callable[..., Run]) -> None:
    run = finished("privacy.budget_epsilon=30")
    page, statement = _words(_page(run.folder)), run.require_statement()
    dataset = statement.dataset
    assert "Whose data? private Protected: all texts of one client, as told apart by the column 'client_id'" in page
    assert f"ε = {round_up(statement.guarantee.epsilon)} at δ = 0.001, unit client, relation add/remove" in page
    assert f"room for ε = {round_down(dataset.left_epsilon)}" in page
    assert f"a reading so far: ε = {round_up(dataset.spent_epsilon)}" in page
    assert "Quality itself needs pretext evaluate" in page
    assert f"ε = {round_up(statement.other_relation.epsilon)}, δ = 0.001, unit client, relation replace-one" in page
    for sentence in statement.not_covered:
        assert sentence in page
    seeds = (run.folder / "seeds.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line)["text"] in page for line in seeds)
    assert "NOT COVERED" not in page
    assert "not finished" not in page


def test_epsilons_are_rounded_up_and_what_is_left_is_rounded_down(finished: Callable[..., Run]) -> None:
    run = finished()
    statement = run.require_statement()
    guarantee = replace(statement.guarantee, epsilon=1.23451)
    dataset = replace(statement.dataset, spent_epsilon=1.23451, left_epsilon=2.34569)
    run.save_statement(replace(statement, guarantee=guarantee, dataset=dataset))
    page = _words(_page(run.folder))  # without the coordinates of the charts, which have any digits
    assert "1.2346" in page
    assert "1.2345" not in page
    assert "2.3456" in page
    assert "2.3457" not in page


def test_it_is_made_from_the_run_folder_alone(
    finished: Callable[..., Run], tmp_path: Path, home: Path, private_file: Path, public_file: Path
) -> None:
    run = finished()
    elsewhere = tmp_path / "elsewhere" / "run"
    shutil.move(run.folder, elsewhere)
    shutil.rmtree(home)
    private_file.unlink()
    public_file.unlink()
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    assert "Is it any good?" in _page(elsewhere)
    assert before == {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}


def test_hostile_texts_are_texts(finished: Callable[..., Run]) -> None:
    run = finished(hostile=True)
    assert HOSTILE.split()[0] in (run.folder / "synthetic.jsonl").read_text()
    page = _page(run.folder)
    assert page.count("<script>") == 1
    assert page.count("</script>") == 1
    assert "<img" not in page
    assert HOSTILE in _words(page)


def test_nothing_is_asked_of_anywhere_else(finished: Callable[..., Run]) -> None:
    page = _page(finished().folder)
    assert not re.search(r"(src|href)=[\"'](?!#|data:,)", page)
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (["privacy.json"], "no privacy statement"),
        (["expansion.json", "synthetic.jsonl"], "0 of 30 synthetic texts are written"),
        (["expansion.json", "synthetic.jsonl", "seeds.jsonl", "selected/002.json"], "2 of 3 rounds are finished"),
        (
            [
                "expansion.json",
                "synthetic.jsonl",
                "seeds.jsonl",
                "privacy.json",
                "timings.json",
                "selected",
                "positions",
            ],
            "0 of 3 rounds are finished",
        ),
        (["population", "selected", "positions"], "0 of 3 rounds"),
    ],
)
def test_an_unfinished_run_says_what_is_missing(finished: Callable[..., Run], gone: list[str], words: str) -> None:
    run = finished()
    for name in gone:
        path = run.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = _words(_page(run.folder))
    assert "This run is not finished" in page
    assert words in page


def test_report__positions_deleted__shows_all_but_the_movement(finished: Callable[..., Run]) -> None:
    run = finished()
    shutil.rmtree(run.folder / "positions")
    page = _words(_page(run.folder))
    assert "no positions of candidates" in page
    assert "not finished" not in page


def test_report__fred_folder__is_refused(finished: Callable[..., Run]) -> None:
    run = finished()
    file = run.folder / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"job": "fred"}))
    with pytest.raises(RunFolderError):
        _page(run.folder)


def test_the_history_of_the_dataset(finished: Callable[..., Run]) -> None:
    run = finished("privacy.budget_epsilon=40")
    statement = run.require_statement()
    past = RunCharge("2026-01-02T03:04:05+00:00", "earlier", releases=2, epsilon=1.00001, spent_epsilon=10.0)
    history = (past, replace(past, run=run.id, spent_epsilon=20.00001))
    run.save_statement(replace(statement, dataset=replace(statement.dataset, history=history)))
    page = _page(run.folder)
    assert "earlier 10 1.0001 2 2026-01-02 03:04 this run 20.0001 1.0001" in _words(page)
    assert 'class="fill " width="25.00%"' in page
    assert 'class="fill this" width="50.00%"' in page


def test_labels_and_the_unit_of_single_records(
    make_config: Callable[..., Config], tmp_path: Path, private_file: Path
) -> None:
    write_rows(private_file, rows_of(label=True))
    config = make_config("data.label_column=label", "data.labels=['computers', 'home']", "privacy.epsilon=40")
    plain = config.model_copy(update={"data": config.data.model_copy(update={"client_column": None})})
    run = synthesize(plain, tmp_path / "run", make_parts(plain))
    page = _page(run.folder)
    assert "<td>home</td><td>synthetic</td>" in page
    assert "a person with many records is NOT protected as a whole" in _words(page)
    assert "every record voted" in _words(page)


def test_a_run_without_signal_is_told_as_one(finished: Callable[..., Run]) -> None:
    with pytest.raises(Exception, match="no seeds"):
        finished("privacy.epsilon=0.01", "evolution.threshold=6")
    folder = Path(open_ledger().path).parent.parent / "run"
    page = _words(_page(folder))
    assert "cannot be told from noise" in page
    assert "no candidate had more noisy votes than the threshold" in page


def test_an_evaluation_does_not_get_into_the_run_folder(finished: Callable[..., Run], tmp_path: Path) -> None:
    run = finished()
    with pytest.raises(UsageError, match="lies in the run folder"):
        write_report(run.folder, run.folder / "report.html", tmp_path / "evaluation.json")
    assert not (run.folder / "report.html").exists()


def test_wrong_files_are_told_in_a_sentence(finished: Callable[..., Run], tmp_path: Path) -> None:
    run = finished()
    with pytest.raises(UsageError, match="cannot be written"):
        write_report(run.folder, tmp_path)
    with pytest.raises(RunFolderError, match="not a run folder"):
        _page(tmp_path)
    run.save("privacy.json", {"format": "another"})
    with pytest.raises(RunFolderError, match=r"privacy\.json"):
        _page(run.folder)
    (run.folder / "privacy.json").unlink()
    (run.folder / "synthetic.jsonl").write_text('{"text": "cut o')
    with pytest.raises(RunFolderError, match="put a whole copy of it back"):
        _page(run.folder)
