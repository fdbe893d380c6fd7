"""The expensive objects, each opened once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pretext.clients.federation import Federation, LocalFederation
from pretext.clients.private_data import read_private
from pretext.clients.voting import Clients
from pretext.config.settings import Config
from pretext.evolution.variation import Variation, open_variation
from pretext.lazy import Once
from pretext.models.engines import Engine
from pretext.vectors import Embedder

ModelPair: TypeAlias = tuple[Engine, Embedder]


@dataclass(frozen=True)
class Parts:
    """What is expensive to open; each is opened once, when it is first needed."""

    engine: Once[Engine]
    embedder: Once[Embedder]
    variation: Once[Variation]
    federation: Once[Federation]

    @classmethod
    def of(cls, config: Config, rows: Sequence[Any] | None = None, models: ModelPair | None = None) -> Parts:
        """The parts that a configuration names; `given` rows take the place of a private file, `models` that of the
        configured engine and embedder."""
        engine = Once(lambda: _open_engine(config) if models is None else models[0])
        embedder = Once(lambda: _open_embedder(config) if models is None else models[1])

        def gather() -> Clients:
            return Clients.embed(read_private(config.data, config.privacy.max_texts_per_client, rows), embedder())

        return cls(
            engine,
            embedder,
            Once(lambda: open_variation(config, engine)),
            Once(lambda: LocalFederation(gather)),
        )


def _open_engine(config: Config) -> Engine:
    from pretext.models.engines import open_engine

    return open_engine(config.models, config.speed)


def _open_embedder(config: Config) -> Embedder:
    from pretext.models.embedder import SentenceEmbedder

    return SentenceEmbedder.from_config(config)
