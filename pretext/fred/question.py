"""The question that FreD asks the clients: made from public data, kept in a folder, bound to its release."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretext.config import Config
from pretext.embedding import Embedder
from pretext.errors import UsageError
from pretext.fred.design import Promise, design
from pretext.fred.public_sets import Statistics
from privacy import Cost, DiscreteGaussian, Relation, calibrate
from privacy.moments import Floats, MomentQuery, mechanism, moments_cost

_LARGEST_DIMENSION = 32_768
_PROBES = ("The weather was fine.", "int main(void) { return 0; }", "Wie geht es dir?", "lol ok, see you at 8")


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
        return mechanism(self.noise_multiplier, self.relation)

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


def question_for(
    config: Config, candidates: Sequence[Statistics], embed: Embedder, epsilon: float | None = None
) -> Question:
    """The question that the candidates and the terms of the guarantee lead to. Nothing private is touched.

    Args:
        config: the terms; `privacy.clients` must be stated.
        candidates: at least two.
        embed: the embedder the candidates went through.
        epsilon: what the release may cost; default: all of the configured one.

    Raises:
        UsageError: no number of clients is stated.
    """
    privacy = config.privacy
    check_clients(config)
    assert privacy.clients is not None
    multiplier = noise_multiplier(config, epsilon)
    deviation = mechanism(multiplier, privacy.relation).standard_deviation
    chosen = design(candidates, deviation, privacy.clients, counted=not privacy.clients_exact)
    return Question(
        chosen.query,
        multiplier,
        privacy.relation,
        privacy.clients if privacy.clients_exact else None,
        identity(config),
        embed(_PROBES),
        chosen.promise,
    )


def check_clients(config: Config) -> None:
    """Raises UsageError if no number of clients is stated."""
    if config.privacy.clients is None:
        raise UsageError(
            "FreD needs a public estimate of the number of clients to choose what to ask them: give --clients "
            "(privacy.clients); its order of magnitude is enough."
        )


def noise_multiplier(config: Config, epsilon: float | None = None) -> float:
    """The configured one, or the smallest at which any query costs at most `epsilon` (default: all of it)."""
    privacy = config.privacy
    target = epsilon or privacy.epsilon
    if target is None:
        assert privacy.noise_multiplier is not None
        return privacy.noise_multiplier
    return calibrate(target, privacy.delta, lambda multiplier: largest_cost(config, multiplier, privacy.relation))


def largest_cost(config: Config, multiplier: float, relation: Relation) -> Cost:
    """What a query costs at most under the configured relation or the budget's own; its size hardly matters."""
    return moments_cost(_LARGEST_DIMENSION, mechanism(multiplier, config.privacy.relation), relation)


def share_of_epsilon(config: Config) -> float | None:
    """What finding the initial candidates may spend of a run's epsilon."""
    epsilon = config.privacy.epsilon
    return None if epsilon is None else epsilon * config.initial.candidates_share


def share_cost(config: Config, relation: Relation) -> Cost:
    """What finding the initial candidates costs a run at most; nothing where there are none."""
    if not config.initial.candidates:
        return Cost()
    return largest_cost(config, noise_multiplier(config, share_of_epsilon(config)), relation)


def identity(config: Config) -> str:
    """The embedder by name and by how much of a text it reads."""
    return f"{config.models.embedder}, {config.models.embedder_tokens} tokens"


def check_embedder(question: Question, config: Config, embed: Embedder) -> None:
    """Raises UsageError if the stored release was made with another embedder."""
    if question.embedder == identity(config):
        probes = embed(_PROBES)
        if probes.shape == question.probes.shape and (probes * question.probes).sum(axis=1).min() > 0.98:
            return
    raise UsageError(
        f"The stored release was made with the embedder {question.embedder}; now it is {identity(config)}, or that "
        "name stands for another model now. Distances between different embedders mean nothing: use the same "
        "embedder, or a new folder, which costs a new release."
    )


def stored(question: Question) -> dict[str, Any]:
    """The question as plain values for JSON; arrays exactly, in base 64."""
    query = {
        name: _packed(value) if isinstance(value, np.ndarray) else value for name, value in vars(question.query).items()
    }
    return {
        "query": query,
        "noise_multiplier": question.noise_multiplier,
        "relation": question.relation.value,
        "clients": question.clients,
        "embedder": question.embedder,
        "probes": _packed(question.probes),
        "promise": asdict(question.promise),
    }


def restored(plain: dict[str, Any]) -> Question:
    """The question out of `stored`. Raises KeyError, TypeError or ValueError if it is not one."""
    query: dict[str, Any] = {
        name: _unpacked(value) if isinstance(value, dict) else value for name, value in plain["query"].items()
    }
    return Question(
        MomentQuery(**query),
        plain["noise_multiplier"],
        Relation(plain["relation"]),
        plain["clients"],
        plain["embedder"],
        _unpacked(plain["probes"]).astype(np.float32),
        Promise(**plain["promise"]),
    )


def _packed(array: NDArray[Any]) -> dict[str, Any]:
    return {"shape": array.shape, "float64": base64.b64encode(array.astype("<f8").tobytes()).decode()}


def _unpacked(packed: dict[str, Any]) -> Floats:
    return np.frombuffer(base64.b64decode(packed["float64"]), "<f8").reshape(packed["shape"]).astype(np.float64)
