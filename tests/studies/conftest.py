"""Two private sets, a public one, models that take no time, and a student of a few thousand parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reproduce import shared_config

from pretext.evaluation.student import CausalStudent
from pretext.evaluation.tiny import make_untrained_student
from pretext.evaluation.training import Training
from pretext.jobs.parts import Parts
from pretext.lazy import Once
from pretext.models.engines.scripted import ScriptedEngine
from tests.support.runs import WORDS, HashEmbedder, reply, rows_of, write_rows


@pytest.fixture
def private_set(tmp_path: Path) -> Path:
    """A set whose name has a public description."""
    return write_rows(tmp_path / "irc_ubuntu.jsonl", rows_of(clients=90))


@pytest.fixture
def public_file(tmp_path: Path) -> Path:
    """Texts of more than 20 words, as the paper's setting needs them."""
    rng = np.random.default_rng(3)
    return write_rows(tmp_path / "public.jsonl", [{"text": " ".join(rng.choice(WORDS, 22))} for _ in range(60)])


@pytest.fixture(scope="session")
def student() -> CausalStudent:
    import torch

    torch.manual_seed(0)
    texts = [row["text"] for row in rows_of(clients=20)]
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "max_position_embeddings": 64}
    return make_untrained_student(texts, vocabulary=320, training=Training(tokens=2_000, rate=1e-2), **shape)


@pytest.fixture
def scripted_parts(scale) -> Parts:
    """Parts with scripted models; `reproduce` adds the clients of the private set."""
    engine = ScriptedEngine(reply)
    parts = Parts.of(shared_config(scale))
    return Parts(Once(lambda: engine), Once(HashEmbedder), parts.variation, parts.federation)


@pytest.fixture
def scale():
    from comparison.methods import Scale

    return Scale(population=16, rounds=2, pool=100, texts=24, tokens=12, texts_per_client=3, delta=1e-3)
