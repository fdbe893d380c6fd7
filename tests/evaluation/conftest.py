"""A student of a few thousand weights, and a finished run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pretext.config.settings import Config
from pretext.evaluation.student import CausalStudent
from pretext.evaluation.tiny import make_untrained_student
from pretext.evaluation.training import Training
from pretext.jobs.run import synthesize
from tests.support.runs import WORDS, make_parts, rows_of, write_rows

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
QUICK = Training(max_tokens=32, tokens=2_500, batch_tokens=256, rate=1e-2, checks=4)


@pytest.fixture(scope="session")
def student() -> CausalStudent:
    return make_untrained_student([" ".join(WORDS)] * 8, vocabulary=400, training=QUICK, **SHAPE)


@pytest.fixture
def run_folder(make_config: Callable[..., Config], tmp_path: Path) -> Path:
    config = make_config("evolution.population=40", "expansion.texts=40")
    return synthesize(config, tmp_path / "run", make_parts(config)).folder


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    """Other clients than those of the run."""
    rows = [row | {"client_id": f"new{row['client_id']}"} for row in rows_of(20)]
    return write_rows(tmp_path / "test.jsonl", rows)
