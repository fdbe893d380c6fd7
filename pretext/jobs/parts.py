"""The expensive objects, each opened once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pretext.clients.federation import Federation, LocalFederation
from pretext.clients.private_data import read_private
from pretext.clients.voting import Clients
from pretext.config.settings import Config, Models, Speed
from pretext.errors import UsageError
from pretext.evolution.variation import Variation, open_variation
from pretext.jobs.timing import Meter
from pretext.lazy import Once
from pretext.models.adapters import use_adapted
from pretext.models.engines import Engine
from pretext.run.records import Candidate
from pretext.vectors import Embedder

ModelPair: TypeAlias = tuple[Engine, Embedder]


def _refuse_adapter(adapter: Path) -> Engine:
    raise UsageError(f"The generator here takes no adapter, so {adapter} is of no use; set adapt.method to none.")


@dataclass(frozen=True)
class Parts:
    """What is expensive to open: models, each opened once when it is first needed, and clients, opened when asked."""

    engine: Once[Engine]
    embedder: Once[Embedder]
    variation: Once[Variation]
    federation: Federation
    general_words: Callable[[], Sequence[str]] = tuple
    open_adapted: Callable[[Path], Engine] = _refuse_adapter

    @classmethod
    def of(cls, config: Config, rows: Sequence[Any] | None = None, models: ModelPair | None = None) -> Parts:
        """The parts that a configuration names; `rows` take the place of a private file, `models` that of the
        configured engine and embedder."""
        engine = Once(lambda: _open_engine(config.models, config.speed) if models is None else models[0])
        embedder = Once(lambda: _open_embedder(config.models, config.speed) if models is None else models[1])

        def gather() -> Clients:
            return Clients.embed(read_private(config.data, config.privacy.max_texts_per_client, rows), embedder())

        return cls(
            engine,
            embedder,
            Once(lambda: open_variation_of(config, engine)),
            LocalFederation(gather),
            tuple if models is not None else lambda: _read_general_words(config.models),
            lambda adapter: _open_engine(use_adapted(config.models, adapter), config.speed),
        )


@dataclass(frozen=True)
class TimedModels:
    """The models of the loop (`pretext.evolution.loop.Models`), whose work is timed by phase.

    Attributes:
        parts: opened when first needed; opening is no part of the work.
        meter: sums seconds and tokens.
        varies: whether the rounds make variations at all.
    """

    parts: Parts
    meter: Meter
    varies: bool

    def open_all(self) -> None:
        """Open every model that the rounds need."""
        with self.meter.phase("loading models"):
            self.parts.embedder()
            if self.varies:
                self.parts.variation()
            self.parts.engine()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows, shape (len(texts), d)."""
        embedder = self.parts.embedder()
        with self.meter.phase("embedding of candidates"):
            return embedder(texts)

    def vary(
        self, parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator
    ) -> list[str | None]:
        """One variation per parent."""
        variation = self.parts.variation()
        with self.meter.phase("variations"):
            return variation(parents, pool, rng)


def open_variation_of(config: Config, engine: Callable[[], Engine]) -> Variation:
    """Open the variation that a configuration names; `engine` is called for only where it is needed."""
    return open_variation(config.variation, config.prompt_style, config.models, config.speed, engine)


def _open_engine(models: Models, speed: Speed) -> Engine:
    from pretext.models.engines import open_engine

    return open_engine(models, speed)


def _read_general_words(models: Models) -> list[str]:
    from pretext.models.words import read_general_words

    return read_general_words(models.embedder)


def _open_embedder(models: Models, speed: Speed) -> Embedder:
    from pretext.models.embedder import SentenceEmbedder

    return SentenceEmbedder.from_sections(models, speed)
