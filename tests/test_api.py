"""The functions of the package: a path, texts from memory, and the mistakes a notebook makes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import pretext
from pretext.errors import UsageError
from pretext.jobs.parts import Parts
from pretext.run.privacy_statement import Rounds
from tests.support.runs import HashEmbedder, make_parts, rows_of

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
