"""The functions of the package: a path, texts from memory, and the mistakes a notebook makes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pretext
from pretext.errors import RunFolderError, UsageError
from pretext.home import open_ledger
from pretext.jobs.parts import Parts
from pretext.run.privacy_statement import Rounds
from privacy import LedgerConflict
from tests.support.runs import HashEmbedder, make_parts, rows_of, write_rows

SETTINGS = {
    "evolution": {"population": 24, "threshold": 0.5},
    "privacy": {"rounds": 2},
    "expansion": {"texts": 10},
    "speed": {"chunk": 8},
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real way in for rows from memory, with the scripted engine and the hashing embedder."""
    real = Parts.of.__func__  # type: ignore[attr-defined]

    def of(cls: type[Parts], config: object, rows: object = None) -> Parts:
        monkeypatch.setattr("pretext.jobs.parts._open_embedder", lambda models, speed: HashEmbedder())
        parts: Parts = real(cls, config, rows)
        scripted = make_parts(config)  # type: ignore[arg-type]
        return Parts(scripted.engine, scripted.embedder, scripted.variation, parts.federation)

    monkeypatch.setattr(Parts, "of", classmethod(of))


def test_a_path(private_file: Path, public_file: Path, tmp_path: Path) -> None:
    result = pretext.synthesize(
        private_file,
        client_column="client_id",
        epsilon=20,
        delta=1e-3,
        public=public_file,
        out=tmp_path / "run",
        settings=SETTINGS,
    )
    assert len(result.texts) == 10
    assert result.privacy.dataset.name == "private"
    before = result.texts
    assert len(result.expand(15).texts) == 15
    assert result.texts[:10] == before
    assert result.privacy.rounds == Rounds(planned=2, released=2, release="votes")


@pytest.mark.parametrize("kind", ["texts", "rows", "frame"])
def test_from_memory(kind: str, public_file: Path, tmp_path: Path) -> None:
    rows = rows_of()
    data = {"texts": [row["text"] for row in rows], "rows": rows, "frame": pd.DataFrame(rows)}[kind]
    result = pretext.synthesize(
        data,
        client_column=None if kind == "texts" else "client_id",
        epsilon=20,
        delta=1e-3,
        public=public_file,
        dataset="notes",
        out=tmp_path / "run",
        settings=SETTINGS,
    )
    assert len(result.rows) == 10
    assert result.privacy.unit.name == ("record" if kind == "texts" else "client")
    assert result.privacy.dataset.name == "notes"


def test_memory_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dataset"):
        pretext.synthesize(["a text"], epsilon=1, prompts=["Texts."], out=tmp_path / "run")


def test_a_missing_column_in_memory(public_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column 'author'"):
        pretext.synthesize(
            rows_of(), client_column="author", epsilon=20, delta=1e-3, public=public_file, dataset="notes",
            out=tmp_path / "run", settings=SETTINGS,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_synthesize__of_columns_in_memory__reads_them_as_a_table(public_file: Path, tmp_path: Path) -> None:
    rows = rows_of()
    result = pretext.synthesize(
        {name: [row[name] for row in rows] for name in rows[0]}, client_column="client_id", epsilon=20, delta=1e-3,
        public=public_file, dataset="notes", out=tmp_path / "run", settings=SETTINGS,
    )  # fmt: skip
    assert result.privacy.unit.name == "client"


def test_accept_changes__after_an_edit__continues_as_the_command_does(
    private_file: Path, public_file: Path, tmp_path: Path
) -> None:
    run = partial(
        pretext.synthesize, private_file, client_column="client_id", epsilon=20, delta=1e-3, public=public_file,
        out=tmp_path / "run", settings=SETTINGS,
    )  # fmt: skip
    result = run()
    for again in (run, partial(result.expand, 12)):
        with (result.folder / "seeds.jsonl").open("a") as seeds:
            seeds.write("\n")
        with pytest.raises(RunFolderError):
            again()
        assert again(accept_changes=True).folder == result.folder
        assert run().folder == result.folder


def test_accept_changes__of_a_fred_folder__continues_as_the_command_does(
    private_file: Path, public_file: Path, tmp_path: Path
) -> None:
    other = write_rows(tmp_path / "other.jsonl", [{"text": f"haus und garten nummer {i}"} for i in range(50)])
    rank = partial(
        pretext.rank_public_sets, private_file, [public_file, other], clients=60, epsilon=5, delta=1e-3,
        client_column="client_id", out=tmp_path / "fred",
    )  # fmt: skip
    answer = rank()
    with (answer.folder / "config.toml").open("a") as config:
        config.write("\n")
    with pytest.raises(RunFolderError):
        rank()
    assert rank(accept_changes=True).ranking == answer.ranking


def test_confirm_new_name__of_a_file_that_is_charged_already__opens_a_second_account(
    private_file: Path, public_file: Path, tmp_path: Path
) -> None:
    run = partial(
        pretext.synthesize, private_file, client_column="client_id", epsilon=20, delta=1e-3, public=public_file,
        settings=SETTINGS,
    )  # fmt: skip
    run(out=tmp_path / "one")
    with pytest.raises(LedgerConflict):
        run(out=tmp_path / "two", dataset="others")
    run(out=tmp_path / "two", dataset="others", confirm_new_name=True)
    assert open_ledger().names() == ["others", "private"]


@pytest.mark.parametrize(
    "argument", [{"public": ["a text"]}, {"public": 5}, {"public": b"a"}, {"prompts": 5}, {"prompts": [5]}], ids=str
)
def test_synthesize__an_argument_of_another_type__is_refused_by_its_name(argument: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(argument))):
        pretext.synthesize(["a text"], epsilon=1, dataset="notes", **argument)  # type: ignore[arg-type]


def test_synthesize__an_array_without_a_length__is_refused() -> None:
    with pytest.raises(UsageError, match="ndarray"):
        pretext.synthesize(np.array("a text"), epsilon=1, dataset="notes", prompts=["a"])
