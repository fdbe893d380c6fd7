"""Run a cell: make its texts or its model, train and score the student, and record what it took."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from comparison.adapted import DP_SGD_TRAINING, adapt_to, adapt_with_noise, pool_of_public_texts, write_adapted
from comparison.cells import FULL, START, Cell, Row
from comparison.costs import NOTHING, ClientCost
from comparison.domains import domain_of
from comparison.methods import (
    ADAPTED_METHODS,
    DP_SGD,
    FREE_METHODS,
    METHODS_WITH_RELEASES,
    ON_PRIVATE,
    ON_PUBLIC,
    PAPER_METHOD,
    PRIVATE_SEEDS,
    PROFILE,
    Scale,
    config_of,
    cost_of,
    setting_of,
    write_cell_texts,
)
from comparison.on_device import FEDERATED_METHODS, ON_DEVICE, Device, train_on_devices
from comparison.sets import PrivateSet
from pretext.config.resolve import dump_settings
from pretext.config.settings import Config, Models
from pretext.errors import NoSignal
from pretext.evaluation.metrics import frechet_distance
from pretext.evaluation.student import CausalStudent, Score
from pretext.jobs.parts import Parts
from pretext.jobs.profile import make_first_pool
from pretext.jobs.run import make_first_population
from pretext.run.records import Candidate
from pretext.screening.screen import Screen
from privacy import Budget

_MAX_VALIDATED = 300
ALL_METHODS = (START, FULL, *FREE_METHODS, PRIVATE_SEEDS, *METHODS_WITH_RELEASES, *ADAPTED_METHODS, *ON_DEVICE)


def epsilon_of(method: str, epsilon: float) -> float:
    """Return the epsilon that a method has: 0, infinity, or the one that is asked for."""
    if method in (START, *FREE_METHODS, ON_PUBLIC):
        return 0.0
    return math.inf if method in (FULL, PRIVATE_SEEDS, ON_PRIVATE) else epsilon


@dataclass(frozen=True)
class Outcome:
    """The result of a cell: a score, unless it has none; the distance and number of its texts."""

    score: Score | None
    frechet: float = math.nan
    texts: int = 0


@dataclass
class Bench:
    """A private set and everything that its cells share; opened once, held in memory only.

    Attributes:
        private: clients and held-out texts.
        parts: engine, embedder, and the federation whose clients embed their texts at the first vote.
        student: before it learned anything.
        public: file of public texts.
        folder: holds the run folders and ledgers of the cells.
    """

    private: PrivateSet
    parts: Parts
    student: CausalStudent
    scale: Scale
    public: str
    folder: Path
    _initial: dict[str, list[Candidate]] = field(default_factory=dict)
    _devices: dict[str, Device] = field(default_factory=dict)
    _costs: dict[str, ClientCost] = field(default_factory=dict)

    def setting(self, method: str) -> str:
        """Describe what distinguishes a cell from others of the same name."""
        clients = f"{len(self.private.training):,} clients, k {self.scale.texts_per_client}"
        if method in (START, FULL):
            return clients
        if method in ON_DEVICE:
            return f"{clients}, delta {self.scale.delta:g}; {FEDERATED_METHODS[method].setting}"
        sizes = setting_of(method, self.scale)
        if method == DP_SGD:
            sizes += f", delta {self.scale.delta:g}; {DP_SGD_TRAINING.setting}"
        if method in (PAPER_METHOD, ON_PUBLIC):
            return f"{clients}, public {Path(self.public).name.split('.')[0]}; {sizes}"
        return sizes if method in FREE_METHODS else f"{clients}; {sizes}"

    def run(self, cell: Cell) -> Row:
        """Run a cell; a method without any survivor or usable text gets a row without figures."""
        started = time.perf_counter()
        try:
            outcome = self._make_outcome(cell)
        except NoSignal:
            outcome = Outcome(None)
        rounds, cost = self._client_cost(cell)
        score = outcome.score or Score(math.nan, math.nan, math.nan, math.nan, math.nan, 0)
        return Row(
            *(cell.set, cell.method, cell.epsilon, cell.repetition, cell.repetition),
            *(score.top1, score.top3, score.top5, score.cross_entropy, score.bits_per_byte),
            gap_closed=math.nan,
            frechet=outcome.frechet,
            texts=outcome.texts,
            seconds=round(time.perf_counter() - started, 1),
            rounds=rounds,
            client_flops=cost.flops,
            bytes_up=cost.bytes_up,
            bytes_down=cost.bytes_down,
            student=self.student.name,
            setting=self.setting(cell.method),
        )

    def _make_outcome(self, cell: Cell) -> Outcome:
        if cell.method in ON_DEVICE:
            budget = Budget(cell.epsilon, self.scale.delta)
            student = train_on_devices(self._device(cell.method), budget, cell.repetition)
            return Outcome(student.score(self.private.test))
        if cell.method == START:
            return Outcome(self.student.score(self.private.test))
        if cell.method == FULL:
            return self._train_and_score([text for client in self.private.training for text in client], cell.repetition)
        texts = self._write_texts(cell)
        return self._train_and_score(texts, cell.repetition) if texts else Outcome(None)

    def _train_and_score(self, texts: Sequence[str], seed: int) -> Outcome:
        """Train on the texts, stop by a tenth of them (300 at most), score on others, as `pretext evaluate` does."""
        texts = [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))]
        held_out = min(len(texts) // 10, _MAX_VALIDATED)
        training, validation = texts[held_out:], texts[:held_out]
        student = self.student.train(training, validation=validation, seed=seed, announce="Training the student")
        size, embed = min(len(self.private.test), self.scale.texts), self.parts.embedder()
        distance = frechet_distance(embed(texts[:size]), embed(self.private.test[:size]))
        return Outcome(student.score(self.private.test), distance, len(texts))

    def _write_texts(self, cell: Cell) -> list[str]:
        config = self._config(cell)
        self.parts.engine()  # opened before the cell has a home of its own, where no converted model lies
        # A folder of its own for every setting: a cell must not continue what another setting wrote.
        mark = hashlib.sha256(f"{self.setting(cell.method)}{dump_settings(config)}".encode()).hexdigest()[:8]
        folder = self.folder / cell.set / f"{cell.method}-{cell.epsilon:g}-{cell.repetition}-{mark}"
        if cell.method in ADAPTED_METHODS:
            return write_adapted(config, self._adapt(cell, config, folder))
        initial = self._initial_population(cell.method, config)
        return write_cell_texts(cell.method, config, folder, self.parts, domain_of(cell.set), initial)

    def _config(self, cell: Cell) -> Config:
        clients = len(self.private.training)
        return config_of(
            cell.method,
            cell.epsilon,
            cell.repetition,
            self.scale,
            domain_of(cell.set),
            self.public,
            cell.set,
            clients,
        )

    def _adapt(self, cell: Cell, config: Config, folder: Path) -> Models:
        """Adapt the generator as a method does; what the folder holds is not done again."""
        folder.mkdir(parents=True, exist_ok=True)
        if cell.method == DP_SGD:
            budget = Budget(cell.epsilon, self.scale.delta)
            models, self._costs[DP_SGD] = adapt_with_noise(config, self.private.training, budget, folder / "adapter")
            return models
        if cell.method == ON_PRIVATE:
            return adapt_to(config, [text for client in self.private.training for text in client], folder / "adapter")
        return adapt_to(config, pool_of_public_texts(config, self.public, self.parts), folder / "adapter")

    def _initial_population(self, method: str, config: Config) -> list[Candidate]:
        """Return the first population, made once for all cells that begin alike."""
        if method == "prompt-only":
            return []
        if method == PRIVATE_SEEDS:
            return [Candidate(text) for client in self.private.training for text in client]
        sections = (config.initial, config.evolution.seed, config.screening, config.variation, config.models)
        sizes = config.profile.prompted_texts if method == PROFILE else config.evolution.population
        key = repr((*sections, method == PROFILE, sizes))
        if key not in self._initial:
            screen, engine = Screen(config.screening), self.parts.engine()
            make = make_first_pool if method == PROFILE else make_first_population
            self._initial[key] = make(config, screen, engine)
        return self._initial[key]

    def _device(self, method: str) -> Device:
        if method not in self._devices:
            self._devices[method] = Device(self.student, self.private.training, FEDERATED_METHODS[method])
        return self._devices[method]

    def _client_cost(self, cell: Cell) -> tuple[int, ClientCost]:
        method = cell.method
        if method in ON_DEVICE:
            return FEDERATED_METHODS[method].rounds, self._device(method).cost
        if method == DP_SGD:
            return DP_SGD_TRAINING.steps, self._costs[method]
        if method in (START, FULL, *ADAPTED_METHODS):
            return 0, NOTHING
        return cost_of(method, self._config(cell), self.scale)
