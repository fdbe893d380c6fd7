"""The formulas' constants against the models themselves, and the paper's sizes."""

from __future__ import annotations

import pytest
from comparison.costs import EMBEDDER_DIMENSION, EMBEDDER_PARAMETERS, PAPER_COSTS, training_cost, voting_cost


@pytest.mark.slow
def test_the_embedders_parameters() -> None:
    import torch
    from transformers import AutoConfig, AutoModel

    from pretext.models.sources import resolve_embedder

    config = AutoConfig.from_pretrained(resolve_embedder("embedded"))
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    tables = sum(size for name, size in sizes.items() if "embeddings.weight" in name or "_embeddings.weight" in name)
    assert sum(sizes.values()) - tables == EMBEDDER_PARAMETERS
    assert config.hidden_size == EMBEDDER_DIMENSION


def test_formulas() -> None:
    vote = voting_cost(population=10, rounds=2, texts=3)
    assert vote.flops == 2 * EMBEDDER_PARAMETERS * 64 * 3 / 2 + 2 * 10 * 384 * 3
    assert (vote.bytes_up, vote.bytes_down) == (80, 15_360)
    learn = training_cost(parameters=100, trained_parameters=10, tokens=7)
    assert (learn.flops, learn.bytes_up, learn.bytes_down) == (2940, 40, 40)


def test_the_papers_claims_hold_at_its_sizes() -> None:
    """PrE-Text claims 9 times fewer rounds, 6 times less client computation, 100 times less communication."""
    (few, ours), (many, theirs) = PAPER_COSTS.values()
    assert many / few > 9
    assert theirs.flops / ours.flops > 6
    assert (theirs.bytes_up + theirs.bytes_down) / (ours.bytes_up + ours.bytes_down) > 100
