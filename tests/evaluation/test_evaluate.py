"""Evaluation of a run: end points of the gap, refusals, and no trace of a private text."""

from __future__ import annotations

import json
import logging
import math
import secrets
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pretext.cli import cli
from pretext.config.settings import Config, Data
from pretext.errors import RunFolderError, UsageError
from pretext.evaluation import evaluate as module
from pretext.evaluation.evaluate import EvaluationSettings, confidence_interval, evaluate_run
from pretext.evaluation.held_out import LabeledTexts, check_disjoint, read_labeled_texts
from pretext.evaluation.student import CausalStudent
from pretext.evaluation.tiny import save_student
from pretext.jobs.run import synthesize
from pretext.lazy import Once
from pretext.models.embedder import SentenceEmbedder
from pretext.report.evaluation import SCORE_TITLES, Estimate, Evaluation
from pretext.run.folder import Run
from tests.support.runs import HashEmbedder, call_main, make_parts, rows_of, write_rows

pytestmark = pytest.mark.slow

SMALL = {"repetitions": 2, "tokens": 300, "texts": 40}


def _data(path: Path, client_column: str | None = "client_id", **more: Any) -> Data:
    return Data(path=str(path), client_column=client_column, **more)


def _evaluate(folder: Path, student: CausalStudent, test: Path, train: Path | None = None, **more: Any) -> Evaluation:
    settings = EvaluationSettings(_data(test), None if train is None else _data(train), **(SMALL | more))
    return evaluate_run(folder, settings, Once(lambda: student), Once(HashEmbedder))


def _estimates(evaluation: Evaluation, name: str) -> list[Estimate]:
    scores = evaluation.gap_closed if name == "gap" else evaluation.scores[name]  # type: ignore[index]
    return [getattr(scores, kind) for kind in SCORE_TITLES]


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def evaluated(student: CausalStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command, with a small student out of a folder and the hashing embedder."""
    save_student(student, tmp_path / "student")
    monkeypatch.setattr(SentenceEmbedder, "from_sections", lambda models, speed: HashEmbedder())
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        fixed = ["--student", str(tmp_path / "student"), "--tokens", "300", "--repetitions", "1"]
        return CliRunner().invoke(cli, ["evaluate", *map(str, arguments), *fixed])

    return call


def test_an_evaluation_has_scores_gaps_and_metrics(
    run_folder: Path, student: CausalStudent, private_file: Path, test_file: Path
) -> None:
    before = _contents(run_folder)
    evaluation = _evaluate(run_folder, student, test_file, private_file)
    assert Evaluation.from_json(evaluation.to_json()) == evaluation
    assert set(evaluation.scores) == {"before", "initial", "synthetic", "private"}
    sets = zip(*(_estimates(evaluation, name) for name in ("synthetic", "initial", "private")), strict=True)
    for gap, estimates in zip(_estimates(evaluation, "gap"), sets, strict=True):
        assert gap.interval is not None and gap.mean is not None
        assert gap.interval[0] <= gap.mean <= gap.interval[1]
        values = zip(*(estimate.values for estimate in estimates), strict=True)
        assert list(gap.values) == [(s - i) / (p - i) for s, i, p in values]  # type: ignore[operator]
    private, untrained = evaluation.scores["private"].cross_entropy, evaluation.scores["before"].cross_entropy
    assert private.mean < untrained.mean  # type: ignore[operator]
    metrics = evaluation.metrics
    assert metrics["private"].frechet < metrics["initial"].frechet  # type: ignore[operator]
    assert metrics["held out"].frechet is None and metrics["held out"].distinct_1 is not None
    assert _contents(run_folder) == before


def test_every_part_of_the_file_says_that_it_is_not_covered(
    run_folder: Path, student: CausalStudent, private_file: Path, test_file: Path
) -> None:
    file = json.loads(_evaluate(run_folder, student, test_file, private_file, repetitions=1).to_json())
    assert "NOT covered" in file["notice"]
    for part in [file, file["gap_closed"], *file["scores"].values(), *file["metrics"].values()]:
        assert part["covered_by_guarantee"] is False


def test_the_gap_is_0_for_the_initial_population_and_1_for_the_private_texts(
    run_folder: Path, student: CausalStudent, private_file: Path, test_file: Path
) -> None:
    """The student is a function of the texts alone, so the ends are exact."""
    population = Run.open(run_folder)[0].population(0)
    assert population is not None
    ends = {0.0: [candidate.text for candidate in population], 1.0: [row["text"] for row in rows_of()]}
    for end, texts in ends.items():
        write_rows(run_folder / "synthetic.jsonl", [{"text": text} for text in texts])
        gap = _evaluate(run_folder, student, test_file, private_file).gap_closed
        assert gap is not None
        assert gap.cross_entropy.values == gap.bits_per_byte.values == (end, end)


def test_without_training_texts_there_is_no_gap(run_folder: Path, student: CausalStudent, test_file: Path) -> None:
    evaluation = _evaluate(run_folder, student, test_file, repetitions=1)
    assert evaluation.gap_closed is None
    assert evaluation.scores["synthetic"].top1.interval is None


def test_labels_carry_over(
    make_config: Callable[..., Config], tmp_path: Path, student: CausalStudent, private_file: Path
) -> None:
    write_rows(private_file, rows_of(label=True))
    labels = ("data.label_column=label", 'data.labels=["computers", "home"]')
    config = make_config(*labels, "expansion.texts=40")
    run = synthesize(config, tmp_path / "run", make_parts(config))
    rows = [row | {"client_id": f"new{row['client_id']}"} for row in rows_of(20, label=True)]
    data = config.data.model_copy(update={"path": str(write_rows(tmp_path / "test.jsonl", rows))})
    settings = EvaluationSettings(data, config.data, **SMALL)
    metrics = evaluate_run(run.folder, settings, Once(lambda: student), Once(HashEmbedder)).metrics
    assert metrics["private"].classifier_transfer == 1
    assert metrics["initial"].classifier_transfer is None
    assert 0 <= metrics["synthetic"].classifier_transfer <= 1  # type: ignore[operator]


def test_an_interval_is_student_s() -> None:
    """Mean 2, standard deviation 1, t(0.95, 2) = 2.919986."""
    assert confidence_interval([1.0, 2.0, 3.0]) == pytest.approx(
        [2 - 2.919986 / 3**0.5, 2 + 2.919986 / 3**0.5], rel=1e-6
    )
    assert confidence_interval([1.0]) is None
    assert confidence_interval([math.nan, 0.5]) is None


def test_clients_that_the_run_saw_are_refused(run_folder: Path, student: CausalStudent, private_file: Path) -> None:
    with pytest.raises(UsageError, match="have clients in common") as caught:
        _evaluate(run_folder, student, private_file)
    assert "60" not in str(caught.value).replace(str(private_file), "")  # a temporary folder has a number, too
    assert _evaluate(run_folder, student, private_file, allow_overlap=True, repetitions=1).scores


def test_training_texts_of_tested_clients_are_refused_too(
    run_folder: Path, student: CausalStudent, test_file: Path
) -> None:
    with pytest.raises(UsageError, match="have clients in common"):
        _evaluate(run_folder, student, test_file, test_file)


def test_apart_by_clients_or_by_texts_or_not_known(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "one.jsonl", [{"text": "a", "client_id": 1}, {"text": "b", "client_id": None}])
    same_text = write_rows(tmp_path / "two.jsonl", [{"text": "a", "client_id": 2}, {"text": "b", "client_id": None}])
    same_client = write_rows(tmp_path / "three.jsonl", [{"text": "c", "client_id": "1"}])
    check_disjoint(_data(file), _data(same_text))
    with pytest.raises(UsageError, match="clients in common"):
        check_disjoint(_data(file), _data(same_client))
    spelled = write_rows(tmp_path / "four.jsonl", [{"text": "c", "client_id": 1.0}])
    with pytest.raises(UsageError, match="clients in common"):
        check_disjoint(_data(file), _data(spelled))
    with pytest.raises(UsageError, match="texts in common"):
        check_disjoint(_data(file), _data(same_text, None))
    check_disjoint(_data(file), _data(same_client, None))
    with pytest.raises(UsageError, match="from Python"):
        check_disjoint(_data(file), Data())


def test_texts_that_are_read_show_nothing_and_must_be_usable(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "one.jsonl", [{"text": text} for text in ("secret", " ", None, 7, "x" * 5000)])
    labeled = read_labeled_texts(_data(path, None))
    assert [len(text) for text in labeled.texts] == [6, 4000]
    assert "secret" not in repr(labeled)
    assert sorted(labeled.sample(9, 0).texts) == sorted(labeled.texts)
    with pytest.raises(UsageError, match="no usable text"):
        read_labeled_texts(_data(write_rows(path, [{"text": " "}]), None))


def test_a_run_without_synthetic_texts_is_refused(run_folder: Path, student: CausalStudent, test_file: Path) -> None:
    (run_folder / "synthetic.jsonl").unlink()
    with pytest.raises(RunFolderError, match="pretext resume"):
        _evaluate(run_folder, student, test_file)


def test_the_command_writes_elsewhere_and_prints_marked_tables(
    run_folder: Path, test_file: Path, private_file: Path, evaluated: Callable[..., Result], tmp_path: Path
) -> None:
    done = evaluated(run_folder, "--test", test_file, "--train", private_file)
    assert done.exit_code == 0, done.output
    tables = done.stdout.split("\n\n")
    assert len(tables) == 4
    assert all("NOT covered" in table for table in tables)
    assert "0.001)-differential privacy, unit client, relation add/remove" in tables[0]
    evaluation = Evaluation.from_json((tmp_path / "evaluation.json").read_text())
    assert f"{evaluation.scores['synthetic'].top1.mean:.4f}" in tables[1]
    printed = evaluated(run_folder, "--test", test_file, "--json", "--out", "other.json")
    assert json.loads(printed.stdout) == json.loads((tmp_path / "other.json").read_text())


@pytest.mark.parametrize("place", ["run/evaluation.json", "run/deep/../e.json", "link/e.json", "run"])
def test_the_run_folder_takes_no_evaluation(
    place: str, run_folder: Path, test_file: Path, evaluated: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(run_folder)
    before = _contents(run_folder)
    done = evaluated(run_folder, "--test", test_file, "--out", tmp_path / place)
    assert isinstance(done.exception, UsageError)
    assert "lies in the run folder" in str(done.exception)
    assert _contents(run_folder) == before


def test_wrong_arguments_are_refused_before_anything_is_trained(
    run_folder: Path, test_file: Path, evaluated: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CausalStudent, "train", lambda *arguments, **named: pytest.fail("a student was trained"))
    cases = [
        ((tmp_path, "--test", test_file), "not a run folder"),
        ((run_folder, "--test", "nowhere.jsonl"), "no file"),
        ((run_folder, "--test", test_file, "--client-column", "who"), "no column 'who'"),
        ((run_folder, "--test", test_file, "--train", "nowhere.jsonl"), "no file"),
        ((run_folder, "--test", test_file, "--out", tmp_path / "no" / "folder.json"), "cannot be a file"),
    ]
    for arguments, sentence in cases:
        done = evaluated(*arguments)
        assert sentence in str(done.exception), arguments
        assert list(tmp_path.glob("*.json")) == []


def _planted(path: Path, prefix: str, clients: int) -> list[str]:
    """Every text and client id of a file gets a unique string; these are returned."""
    rows = rows_of(clients)
    marks = [f"canary{secrets.token_hex(8)}" for _ in rows]
    for row, mark in zip(rows, marks, strict=True):
        row["text"] += f" {mark}"
        row["client_id"] = f"{prefix}-{row['client_id']}-{mark[:20]}"
    write_rows(path, rows)
    return [*marks, *(row["client_id"] for row in rows)]


def _holds(marks: list[str], content: str | bytes) -> bool:
    raw = content.encode() if isinstance(content, str) else content
    return any(mark.encode() in raw for mark in marks)


def test_an_evaluation_leaves_no_trace_of_a_private_text(
    run_folder: Path,
    private_file: Path,
    test_file: Path,
    evaluated: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    marks = _planted(private_file, "train", 20) + _planted(test_file, "test", 20)
    with caplog.at_level(logging.DEBUG):
        done = evaluated(run_folder, "--test", test_file, "--train", private_file)
    assert done.exit_code == 0, done.output
    assert not _holds(marks, done.output + caplog.text)
    # The search itself works: it finds the planted strings where they do stand, and nowhere else.
    holding = {path for path, content in _contents(tmp_path).items() if _holds(marks, content)}
    assert holding == {str(private_file), str(test_file)}


@pytest.mark.parametrize("place", ["train", "score", "embed", "compare"])
def test_an_exception_quotes_nothing(
    place: str,
    run_folder: Path,
    private_file: Path,
    test_file: Path,
    student: CausalStudent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marks = _planted(private_file, "train", 20) + _planted(test_file, "test", 20)

    def broken(*arguments: object, **named: object) -> object:
        raise MemoryError

    where = {
        "train": (CausalStudent, "train"),
        "score": (CausalStudent, "score"),
        "embed": (HashEmbedder, "__call__"),
        "compare": (module.metrics, "mauve_score"),
    }[place]
    monkeypatch.setattr(*where, broken)
    with pytest.raises(MemoryError) as caught:
        _evaluate(run_folder, student, test_file, private_file, repetitions=1)
    assert not _holds(marks, "".join(traceback.format_exception(caught.value)))
    assert not any(_holds(marks, content) for content in _contents(run_folder).values())


def test_an_interruption_ends_with_exit_code_4(
    run_folder: Path, test_file: Path, evaluated: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*arguments: object, **named: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(CausalStudent, "train", interrupted)
    command = ["evaluate", run_folder, "--test", test_file, "--student", tmp_path / "student"]
    assert call_main(monkeypatch, *command) == 4
    assert not (tmp_path / "evaluation.json").exists()


def test_metrics_compare_samples_of_one_size(run_folder: Path, test_file: Path, student: CausalStudent) -> None:
    sizes: list[int] = []

    class Counting(HashEmbedder):
        def __call__(self, texts: Any, *, announce: str | None = None) -> Any:
            sizes.append(len(texts))
            return super().__call__(texts)

    settings = EvaluationSettings(_data(test_file), texts=1000, repetitions=1, tokens=100)
    evaluate_run(run_folder, settings, Once(lambda: student), Once(Counting))
    assert len(set(sizes)) == 1


def test_a_sample_keeps_labels_with_their_texts() -> None:
    texts = LabeledTexts([f"text {number}" for number in range(20)], [f"label {number}" for number in range(20)])
    sample = texts.sample(10, 1)
    assert [text.split()[1] for text in sample.texts] == [label.split()[1] for label in sample.labels]
    assert len(set(sample.texts)) == 10
    assert sample == texts.sample(10, 1)
    assert sample != texts.sample(10, 2)
