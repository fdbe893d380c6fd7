"""The method of profiles as a job: a pool, a profile, weights, an adapted generator, and a writer chosen by fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretext.config.settings import Config
from pretext.errors import RunFolderError
from pretext.evolution.distillation import Judgment, choose_writer, judge_writer
from pretext.evolution.expansion import expand
from pretext.evolution.guided import Starts, write_guided
from pretext.evolution.pool import make_pool
from pretext.evolution.profile_loop import Questions, evolve_profile
from pretext.evolution.profile_writer import AcceptedWriter, LabelPlan
from pretext.evolution.releases import RoundReleases
from pretext.evolution.weighing import Target, fit_texts, weigh_texts
from pretext.formatting import quote_path
from pretext.jobs.adapting import ADAPTER_FOLDER, adapt_generator, write_sample
from pretext.jobs.parts import Parts, TimedModels
from pretext.models.adaptation import find_weights
from pretext.models.engines import Engine
from pretext.profile.weights import Weights
from pretext.prompts import Prompt
from pretext.run.folder import Run
from pretext.run.profiles import load_profile_answer, load_profile_query
from pretext.run.records import Candidate, Seed
from pretext.run.writers import WriterRecord, load_writer, save_writer
from pretext.screening.screen import Screen

PROMPTED, GUIDED, ADAPTED = "prompted", "guided", "adapted"
_SEEDS = 1000
_log = logging.getLogger("pretext")


@dataclass(frozen=True)
class ProfileRun:
    """A run of the method of profiles on its way.

    Attributes:
        config, run, parts, models: as in `pretext.jobs.run`.
    """

    config: Config
    run: Run
    parts: Parts
    models: TimedModels
    _rows: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def embed(self, texts: Sequence[str], *, announce: str | None = None) -> NDArray[np.float32]:
        """Embed texts, each once: the pool is asked for again and again."""
        fresh = list(dict.fromkeys(text for text in texts if text not in self._rows))
        if fresh:
            self._rows.update(zip(fresh, self.models.embed(fresh), strict=True))
        return np.stack([self._rows[text] for text in texts])

    def open_all(self) -> None:
        """Open every model that the rounds need."""
        self.models.open_all()

    def make_pool(self, find_locations: Callable[[], Sequence[str]]) -> list[Candidate]:
        """Make and save the first pool, or read it."""
        if (pool := self.run.population(0)) is not None:
            return pool
        config, screen = self.config, Screen(self.config.screening)
        locations = find_locations()
        engine = self.parts.engine() if config.initial.prompts else None
        with self.models.meter.phase("initial population"):
            pool = make_first_pool(config, screen, engine, locations)
        return self.run.save_population(0, pool, dict(screen.dropped))

    def find_weights(self) -> None:
        """Find the weights that will be adapted, if any, before the release is paid for. Raises ModelError."""
        if self.config.adapt.method != "none":
            find_weights(self.config.models.generator)

    def work(self, releases: RoundReleases, pool: list[Candidate]) -> None:
        """Run all rounds, then choose a writer. What the folder already holds is not done again."""
        config = self.config
        questions = Questions(
            config.profile,
            config.profile_features,
            max(1, len(config.data.labels)),
            config.privacy.max_texts_per_client,
            self.parts.general_words,
            config.evolution.seed,
        )
        pool, targets = evolve_profile(
            self.run,
            pool,
            releases,
            self.parts.federation,
            self,
            self.write_guided,
            rounds=config.privacy.rounds,
            questions=questions,
        )
        if load_writer(self.run) is None:
            self.choose_writer(pool, targets)

    def prompts(self) -> list[Prompt]:
        """Return the prompt that asks for a text of each label."""
        return label_prompts(self.config, self.config.initial.examples)

    def write_guided(self, number: int, targets: Sequence[Target]) -> list[Candidate]:
        """Write and save the texts that a release asks for."""
        config, screen = self.config, Screen(self.config.screening)
        starts = [Starts.of(target) for target in targets]
        rng = np.random.default_rng([config.evolution.seed, number, 3])
        engine = self.parts.engine()
        with self.models.meter.phase("guided texts"):
            texts = write_guided(
                self.prompts(),
                starts,
                config.profile.guided_texts,
                config.expansion,
                config.prompt_style,
                engine,
                screen,
                rng,
            )
        return self.run.save_population(number, texts, dict(screen.dropped))

    def choose_writer(self, pool: Sequence[Candidate], targets: Sequence[Target]) -> None:
        """Weigh the pool, adapt the generator to draws from it, judge the writers, and save the choice and seeds."""
        with self.models.meter.phase("weighing"):
            texts = [candidate.text for candidate in pool]
            marks = [target.matrix(texts, self.embed(texts)) for target in targets]
            weights = [
                weigh_texts(target, mark, self.config.profile.box) for target, mark in zip(targets, marks, strict=True)
            ]
        for target, mark, label_weights in zip(targets, marks, weights, strict=True):
            _log_weights(target, label_weights, fit_texts(target, mark, label_weights).distance)
        self.run.save_seeds(self.make_seeds(pool, targets, weights), self.config.data.labels)
        samples = {
            PROMPTED: [candidate for candidate in pool if candidate.origin and candidate.origin.kind == "prompt"],
            GUIDED: [candidate for candidate in pool if candidate.origin and candidate.origin.kind == "guided"],
        }
        samples |= {ADAPTED: self.write_adapted(pool, targets, weights)}
        judgments = {
            name: judge_writer(targets, sample, self.embed, self.config.profile.box)
            for name, sample in samples.items()
            if len({candidate.label for candidate in sample}) == len(targets)
        }
        writer = choose_writer(judgments)
        distances = {name: judgment.fit.distance for name, judgment in judgments.items()}
        _log.info(
            "Writer: %s (distance from the profile beyond its noise: %s).",
            writer,
            ", ".join(f"{name} {distance:.3f}" for name, distance in distances.items()),
        )
        save_writer(self.run, make_writer_record(writer, distances, targets, judgments[writer]))

    def write_adapted(
        self, pool: Sequence[Candidate], targets: Sequence[Target], weights: Sequence[Weights]
    ) -> list[Candidate]:
        """Adapt the generator and let it write a sample; empty where the settings ask for no adaptation."""
        config, number = self.config, self.config.privacy.rounds + 1
        if (sample := self.run.population(number)) is not None:
            return sample
        prompts = adapted_prompts(config)
        with self.models.meter.phase("adaptation"):
            folder = adapt_generator(config, self.run, prompts, pool, targets, weights)
        if folder is None:
            return []
        counts, screen = np.array([target.texts for target in targets]), Screen(config.screening)
        engine = self.adapted_engine()
        with self.models.meter.phase("adapted texts"):
            sample = write_sample(config, prompts, (counts / counts.sum()).tolist(), engine, screen)
        return self.run.save_population(number, sample, dict(screen.dropped))

    def make_seeds(
        self, pool: Sequence[Candidate], targets: Sequence[Target], weights: Sequence[Weights]
    ) -> list[Seed]:
        """List the heaviest texts of the pool; their `votes` are the clients' texts that each stands for."""
        seeds = [
            Seed(pool[row].text, label, 0, target.texts * float(label_weights.p[row]), float(label_weights.p[row]))
            for label, (target, label_weights) in enumerate(zip(targets, weights, strict=True))
            for row in np.argsort(-label_weights.p)[: _SEEDS // len(targets)].tolist()
        ]
        return sorted(seeds, key=lambda seed: (-seed.votes, seed.text))

    def read_targets(self) -> list[Target]:
        """Read what the finished rounds released.

        Raises:
            RunFolderError: a round is missing.
        """
        queries, answers = [], []
        for number in range(self.config.privacy.rounds):
            query, answer = load_profile_query(self.run, number), load_profile_answer(self.run, number)
            if query is None or answer is None:
                raise RunFolderError(
                    f"{self.run.folder} holds no profile of round {number}; finish the run with `pretext resume "
                    f"{self.run.folder}`."
                )
            queries.append(query)
            answers.append(query.read(np.array(answer.noisy), answer.sigma))
        return [Target.of(queries, profiles) for profiles in zip(*answers, strict=True)]

    def expand(self, texts: int) -> Path:
        """Write synthetic texts by the chosen writer until there are `texts`.

        Raises:
            RunFolderError: the evolution is not finished.
        """
        config = self.config
        if (record := load_writer(self.run)) is None:
            raise RunFolderError(
                f"{self.run.folder} holds no writer yet; finish the run with "
                f"`pretext resume {quote_path(self.run.folder)}`."
            )
        return expand(
            self.run,
            lambda: self.open_writer(record),
            self.known_texts(),
            texts,
            expansion=config.expansion,
            screening=config.screening,
            prompts_at_once=config.speed.prompts_at_once,
        )

    def known_texts(self) -> list[str]:
        """List the public texts, which are not written anew."""
        pool = self.run.population(0) or []
        public = [candidate.text for candidate in pool if candidate.origin and candidate.origin.kind == "public"]
        return [*self.config.prompt_style.anchors, *public]

    def open_writer(self, record: WriterRecord) -> AcceptedWriter:
        """Open the chosen writer."""
        config, targets = self.config, self.read_targets()
        guided, adapted = record.writer == GUIDED, record.writer == ADAPTED
        prompts = adapted_prompts(config) if adapted else self.prompts()
        plans = [
            LabelPlan(share, target, acceptance, Starts.of(target) if guided else None, prompt)
            for share, target, acceptance, prompt in zip(
                record.shares, targets, record.acceptances, prompts, strict=True
            )
        ]
        return AcceptedWriter(
            plans,
            self.sample_of(record.writer),
            self.adapted_engine if adapted else self.parts.engine,
            self.embed,
            config.expansion,
            config.prompt_style,
            config.evolution.seed,
        )

    def adapted_engine(self) -> Engine:
        """Open the generator with the run's adapter."""
        return self.parts.open_adapted(self.run.folder / ADAPTER_FOLDER)

    def sample_of(self, writer: str) -> list[Candidate]:
        """Read what a writer wrote before it was chosen."""
        rounds = self.config.privacy.rounds
        numbers = {PROMPTED: [0], GUIDED: range(1, rounds + 1), ADAPTED: [rounds + 1]}[writer]
        kind = {PROMPTED: "prompt", GUIDED: "guided", ADAPTED: "adapted"}[writer]
        texts = [candidate for number in numbers for candidate in self.run.population(number) or []]
        return [candidate for candidate in texts if candidate.origin and candidate.origin.kind == kind]


def make_first_pool(
    config: Config, screen: Screen, engine: Engine | None, locations: Sequence[str] = ()
) -> list[Candidate]:
    """Make the first pool that a configuration describes; arguments as `make_pool`."""
    sections = config.initial, config.profile, config.expansion, config.prompt_style
    return make_pool(*sections, config.evolution.seed, screen, engine, locations)


def adapted_prompts(config: Config) -> list[Prompt]:
    """Return the prompt of each label by which a generator is adapted and asked: short, as it knows the rest."""
    return label_prompts(config, ())


def label_prompts(config: Config, examples: Sequence[str]) -> list[Prompt]:
    """Return the prompt of each label, with examples."""
    style, sentence = config.prompt_style, (config.initial.prompts or ("",))[0]
    return [style.of_label(sentence, examples, label) for label in range(max(1, len(config.data.labels)))]


def make_writer_record(
    writer: str, distances: dict[str, float], targets: Sequence[Target], judgment: Judgment
) -> WriterRecord:
    """Put down which writer was chosen, and how its texts are accepted."""
    counts = np.array([target.texts for target in targets])
    return WriterRecord(
        writer,
        distances,
        (counts / counts.sum()).tolist(),
        judgment.acceptances,
    )


def _log_weights(target: Target, weights: Weights, distance: float) -> None:
    _log.info(
        "The pool, weighed: effective size %.0f, largest weight %.4f, distance from the profile beyond its noise %.3f "
        "(about %.0f texts of clients).",
        weights.effective_size,
        weights.largest,
        distance,
        target.texts,
    )
