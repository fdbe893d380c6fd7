"""The question that FreD asks the clients: made from public data, kept in a folder, bound to its release."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy import Cost, DiscreteGaussian, Relation
from privacy.moments import Floats, MomentQuery, moments_cost, moments_mechanism


@dataclass(frozen=True)
class Promise:
    """What a query is expected to tell: means over all stand-ins for the private set.

    Attributes:
        bias: of a distance, before it is removed.
        error: root mean square error of the gap between two distances.
        chance: of ranking two candidates right; normal approximation.
        explained: share of the candidates' pooled variance in the directions of the second moments.
    """

    bias: float
    error: float
    chance: float
    explained: float


@dataclass(frozen=True)
class Question:
    """Everything public about a release of moments; kept in a folder, so that more candidates can be ranked later.

    Attributes:
        query: what the clients are asked.
        noise_multiplier: noise / sensitivity.
        relation: the relation that the noise was calibrated for.
        clients: the public number of clients, None where the release counts them.
        embedder: name of the embedder, and to how many tokens it cuts.
        probes: shape (4, d), how it embeds four fixed sentences.
        promise: what the design expects, from public data alone.
    """

    query: MomentQuery
    noise_multiplier: float
    relation: Relation
    clients: int | None
    embedder: str
    probes: NDArray[np.float32] = field(repr=False)
    promise: Promise

    @property
    def mechanism(self) -> DiscreteGaussian:
        """The noise."""
        return moments_mechanism(self.noise_multiplier, self.relation)

    @property
    def subject(self) -> str:
        """What the release is bound to: the query, and the embedder that gives it meaning."""
        return hashlib.sha256(f"{self.query.digest} {self.embedder}".encode()).hexdigest()

    @property
    def label(self) -> str:
        """Name of the release in the ledger, by content: the same question with the same noise is never paid twice."""
        terms = f"{self.subject} {self.noise_multiplier!r} {self.relation.value}"
        return f"fred/{hashlib.sha256(terms.encode()).hexdigest()[:16]}"

    def cost(self, relation: Relation) -> Cost:
        """What the release costs under a relation."""
        return moments_cost(self.query.dimension, self.mechanism, relation)


def encode_question(question: Question) -> dict[str, Any]:
    """The question as plain values for JSON; arrays exactly, in base 64."""
    query = {
        name: _encode_array(value) if isinstance(value, np.ndarray) else value
        for name, value in vars(question.query).items()
    }
    return {
        "query": query,
        "noise_multiplier": question.noise_multiplier,
        "relation": question.relation.value,
        "clients": question.clients,
        "embedder": question.embedder,
        "probes": _encode_array(question.probes),
        "promise": asdict(question.promise),
    }


def decode_question(values: dict[str, Any]) -> Question:
    """The question out of `encode_question`. Raises KeyError, TypeError or ValueError if it is not one."""
    query: dict[str, Any] = {
        name: _decode_array(value) if isinstance(value, dict) else value for name, value in values["query"].items()
    }
    return Question(
        MomentQuery(**query),
        values["noise_multiplier"],
        Relation(values["relation"]),
        values["clients"],
        values["embedder"],
        _decode_array(values["probes"]).astype(np.float32),
        Promise(**values["promise"]),
    )


def _encode_array(array: NDArray[Any]) -> dict[str, Any]:
    return {"shape": array.shape, "float64": base64.b64encode(array.astype("<f8").tobytes()).decode()}


def _decode_array(packed: dict[str, Any]) -> Floats:
    return np.frombuffer(base64.b64decode(packed["float64"]), "<f8").reshape(packed["shape"]).astype(np.float64)
