"""The dataset card, read by the library that it is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard

from pretext.jobs.run import expand_run
from pretext.run.folder import Run
from pretext.run.shards import synthetic_rows
from privacy.rounding import round_up
from tests.support.runs import make_parts


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["expansion.format=parquet"],
        ["expansion.shard_texts=9"],
        ["expansion.shard_texts=9", "expansion.format=parquet"],
    ],
)
def test_load_dataset_loads_the_synthetic_texts_and_nothing_else(
    finished: Callable[..., Run], tmp_path: Path, settings: list[str]
) -> None:
    import datasets

    run = finished(*settings)
    loaded = datasets.load_dataset(str(run.folder), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert loaded["train"].to_list() == list(synthetic_rows(run.folder))
    assert len(loaded["train"]) == 30


def test_the_header_and_the_promise(finished: Callable[..., Run]) -> None:
    run = finished("card.license=cc0-1.0", "card.languages=['en']")
    card = DatasetCard.load(run.folder / "README.md")
    assert card.data.license == "cc0-1.0"
    assert card.data.language == ["en"]
    assert card.data.size_categories == ["n<1K"]
    assert {"synthetic", "differential-privacy"} <= set(card.data.tags)
    statement = run.require_statement()
    assert f"({round_up(statement.guarantee.epsilon)}, 0.001)-differentially private" in card.text
    assert "unit | client: all texts of one client" in card.text
    for sentence in statement.not_covered:
        assert sentence in card.text
    assert str(run.folder.parent) not in card.content  # where things lie is nobody's business


def test_it_is_written_anew_when_a_run_grows(finished: Callable[..., Run]) -> None:
    run = finished()
    _, config = Run.open(run.folder)
    assert "\n30 synthetic texts" in (run.folder / "README.md").read_text()
    expand_run(config, run, make_parts(config), 40)
    text = (run.folder / "README.md").read_text()
    assert "\n40 synthetic texts" in text
