"""Compute what one client computes and sends in a round, by formula.

Floating-point operations of a transformer: 2 a parameter and token for a forward pass, another 2 for the gradients of
the activations and 2 more for those of every trained parameter (Kaplan et al. 2020); look-up tables of embeddings cost
nothing, an output layer that shares one does. Bytes are what crosses the network uncompressed, without the models that
a client downloads once: 4 for a weight, an update or a coordinate, 8 for a vote (they are summed as whole numbers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EMBEDDER_PARAMETERS: Final = 10_795_392
"""Of all-MiniLM-L6-v2 without its look-up tables."""
EMBEDDER_DIMENSION: Final = 384
EMBEDDER_TOKENS: Final = 64
BYTES_OF_FEATURE: Final = 16
"""Of a feature's name: a word, a pair or a triple."""


@dataclass(frozen=True)
class ClientCost:
    """Cost of one client in one round that it takes part in."""

    flops: float
    bytes_up: int
    bytes_down: int


NOTHING: Final = ClientCost(0.0, 0, 0)


def voting_cost(population: int, rounds: int, texts: int) -> ClientCost:
    """Return the cost of private evolution.

    A client embeds `texts` texts once, which is spread over the rounds here, and searches the nearest of `population`
    candidates in every round. It receives their embeddings and sends its votes.
    """
    embedding = 2 * EMBEDDER_PARAMETERS * EMBEDDER_TOKENS * texts / rounds
    search = 2 * population * EMBEDDER_DIMENSION * texts
    return ClientCost(embedding + search, 8 * population, 4 * population * EMBEDDER_DIMENSION)


def profile_cost(features: int, clusters: int, texts: int) -> ClientCost:
    """Return the cost of a profile: it names the features and shows the clusters' centers, and counts come back.

    Finding the features in a text is free beside embedding it.
    """
    vote = voting_cost(clusters, 1, texts)
    return ClientCost(vote.flops, vote.bytes_up + 8 * features, vote.bytes_down + BYTES_OF_FEATURE * features)


def training_cost(parameters: int, trained_parameters: int, tokens: float) -> ClientCost:
    """Return the cost of federated training.

    `tokens` tokens pass a model of `parameters` parameters, of which `trained_parameters` change: these come down and
    their update goes up.
    """
    return ClientCost(
        (4 * parameters + 2 * trained_parameters) * tokens, 4 * trained_parameters, 4 * trained_parameters
    )


PAPER_COSTS: Final = {
    # PrE-Text's setting; and DP-FedAvg of DistilGPT2 (81.9 million parameters, 42.5 million in its layers and 38.6
    # in the shared output layer), one pass over 8 texts of 64 tokens.
    "PrE-Text, as published": (11, voting_cost(1024, 11, 8)),
    "DP-FedAvg, DistilGPT2": (100, training_cost(81_100_000, 81_900_000, 8 * 64)),
}
"""The paper's two ways at its own sizes, by the same formulas: rounds, and cost of a client in one of them."""
