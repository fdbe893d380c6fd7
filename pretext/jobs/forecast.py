"""Forecast a run's tokens, seconds and memory from a short measurement on public texts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretext.answers import extract_answer
from pretext.clients.voting import Ballot, Clients
from pretext.config.settings import Config
from pretext.evolution.distillation import WRITTEN_PER_TEXT
from pretext.evolution.expansion import PromptSampler
from pretext.evolution.pool import sample_public_sets
from pretext.jobs.parts import Parts, TimedModels
from pretext.jobs.profile import adapted_prompts, label_prompts
from pretext.jobs.run import make_first_population, vote_rule
from pretext.jobs.timing import Meter
from pretext.models.engines import Sampling
from pretext.models.learner import Learner
from pretext.profile.features import text_features
from pretext.prompts import Prompt
from pretext.run.records import Candidate, Phase, Seed
from pretext.screening.screen import Screen

_SAMPLE = {"transformers": 64}
_LARGE_SAMPLE = 256  # engines that schedule by themselves are fast only with many prompts
_VOTING_SAMPLE = 20_000
_TEXT_BYTES = 500  # a private text of chat or note length, as a Python string with its table's overhead


@dataclass(frozen=True)
class Forecast:
    """What a run will take on this machine.

    Attributes:
        phases: seconds and tokens by name, as in timings.json; also `clients` if their number is stated, and `finding
            public sets` (at most) where FreD chooses among them.
        memory: peak of all processes together, in bytes.
    """

    phases: dict[str, Phase]
    memory: int

    @property
    def total(self) -> Phase:
        """Sum over the phases."""
        return sum(self.phases.values(), Phase())

    def describe(self) -> str:
        """Describe the forecast in lines for people."""
        total = self.total
        longest = sorted(self.phases.items(), key=lambda item: -item[1].seconds)
        phases = ", ".join(f"{name} {_format_duration(phase.seconds)}" for name, phase in longest if phase.seconds >= 1)
        unknown = "" if "clients" in self.phases else " without the clients' side (state privacy.clients)"
        return "\n".join(
            [
                f"Time                 about {_format_duration(total.seconds)}{unknown}: {phases}",
                f"Tokens               about {total.read:,} read and {total.written:,} written by the generator",
                f"Memory               about {self.memory / 2**30:.1f} GiB",
            ]
        )


def make_forecast(config: Config, parts: Parts) -> Forecast:
    """Open the models, do a sample of every kind of work, and multiply. Nothing private is touched.

    The sample is of public texts, or of texts written from the prompts. Private texts count as if they were as long,
    and each client as if it had the most texts allowed; without `privacy.clients` their side is left out.

    Raises:
        ModelError, EngineError, UsageError: as the run itself would.
    """
    sample = _ProfileSample if config.privacy.release == "profile" else _VotesSample
    return sample(config, parts, Meter(parts.engine)).forecast()


@dataclass(frozen=True)
class _Sample:
    """A small piece of a run's work, timed by phase."""

    config: Config
    parts: Parts
    meter: Meter

    @property
    def size(self) -> int:
        """Prompts that suffice to see an engine's speed."""
        return _SAMPLE.get(self.config.speed.engine, _LARGE_SAMPLE)

    def add_private_side(
        self, phases: dict[str, Phase], embedding: float, answering: float, dimension: int
    ) -> Forecast:
        """Add what the clients' side takes: seconds of embedding a text once, and of answering with it."""
        initial = self.config.initial
        if initial.public_sets:
            phases["finding public sets"] = Phase(embedding * len(initial.public_sets) * initial.public_set_texts)
        if self.config.privacy.clients is not None:
            phases["clients"] = Phase(self.texts * (embedding + answering))
        return Forecast(phases, self.peak_memory(dimension))

    def peak_memory(self, dimension: int) -> int:
        """Add up what is in use now with all models open and used, and what the clients' texts will add."""
        import psutil

        this = psutil.Process()
        used = sum(process.memory_info().rss for process in [this, *this.children(recursive=True)])
        return int(used + self.texts * (4 * dimension + _TEXT_BYTES))

    @property
    def texts(self) -> int:
        """Private texts at most, as far as the number of clients is public."""
        return (self.config.privacy.clients or 0) * self.config.privacy.max_texts_per_client


class _VotesSample(_Sample):
    """A small piece of the work of a run that asks for votes."""

    def forecast(self) -> Forecast:
        config, meter = self.config, self.meter
        size = config.evolution.population
        models = TimedModels(self.parts, meter, varies=True)
        models.open_all()
        population = self.write_population(min(size, self.size))
        rng = np.random.default_rng(0)
        models.vary(population, population, rng)
        dimension = models.embed([candidate.text for candidate in population]).shape[1]
        passing = self.expand(population, rng)
        rounds, lookahead = config.privacy.rounds, config.evolution.lookahead
        variations = (rounds - 1) * (1 - config.evolution.kept_parents) + rounds * lookahead
        times = {
            "variations": variations * size / len(population),
            "embedding of candidates": rounds * (1 + lookahead) * size / len(population),
            "expansion": config.expansion.texts / passing,
        }
        phases = {name: phase * times.get(name, 1) for name, phase in meter.phases.items()}
        per_text = meter.phases["embedding of candidates"].seconds / len(population)
        return self.add_private_side(phases, per_text, self.voting_seconds(dimension), dimension)

    def write_population(self, size: int) -> list[Candidate]:
        """Make a small initial population; reading counts as it is, writing by the number of texts."""
        evolution, initial = self.config.evolution, self.config.initial
        small = self.config.model_copy(update={"evolution": evolution.model_copy(update={"population": size})})
        with self.meter.phase("initial population"):
            engine = self.parts.engine() if initial.prompts else None
            # Which public sets FreD would choose is not known; any of them take as long to read.
            sets = initial.public_sets[: initial.public_sets_used]
            population = make_first_population(small, Screen(self.config.screening), engine, sets)
        if initial.prompts:
            self.meter.phases["initial population"] *= evolution.population / size
        return population

    def expand(self, population: list[Candidate], rng: np.random.Generator) -> int:
        """Count how many of the answers to a sample of prompts pass the screening; at least 1."""
        expansion, style = self.config.expansion, self.config.prompt_style
        seeds = [Seed(candidate.text, candidate.label, 0, 1.0, 1.0) for candidate in population]
        sampling = Sampling.from_section(expansion, style.stops, rng)
        prompts, _ = PromptSampler(seeds, expansion.examples, style).draw(len(population), rng)
        screen = Screen(self.config.screening)
        with self.meter.phase("expansion"):
            completions = self.parts.engine().complete(prompts, sampling)
        return max(1, sum(screen.keep(extract_answer(completion, style.ends)) for completion in completions))

    def voting_seconds(self, dimension: int) -> float:
        """Measure what a client's text costs in all rounds of voting."""
        privacy, evolution = self.config.privacy, self.config.evolution
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((_VOTING_SAMPLE, dimension), np.float32)
        labels = np.zeros(_VOTING_SAMPLE, np.int64)
        clients = Clients(rows, np.arange(_VOTING_SAMPLE, dtype=np.int64), labels)
        points = rng.standard_normal((evolution.population, dimension), np.float32)
        ballot = Ballot(points, np.zeros(evolution.population, np.int64))
        started = time.perf_counter()
        clients.vote(ballot, vote_rule(privacy, evolution.nearest))
        voting = time.perf_counter() - started
        return privacy.rounds * voting / _VOTING_SAMPLE


class _ProfileSample(_Sample):
    """A small piece of the work of a run that asks for a profile; weighing the pool is left out."""

    def forecast(self) -> Forecast:
        config, meter, style = self.config, self.meter, self.config.prompt_style
        profile, rounds = config.profile, config.privacy.rounds
        models = TimedModels(self.parts, meter, varies=False)
        models.open_all()
        rng = np.random.default_rng(0)
        with meter.phase("guided texts"):
            asked = self.complete(label_prompts(config, config.initial.examples), rng)
        with meter.phase("adapted texts"):
            adapted = self.complete(adapted_prompts(config), rng)
        with meter.phase("initial population"):
            public = self.sample_public_texts(rng)
        answers = [extract_answer(completion, style.ends) for completion in (*asked, *adapted)]
        texts = [text for text in answers if text]
        dimension = models.embed(texts).shape[1]
        embedding = meter.phases["embedding of candidates"].seconds / len(texts)
        prompted = profile.prompted_texts if config.initial.prompts else 0
        written, wanted = profile.adapted_texts, WRITTEN_PER_TEXT * config.expansion.texts
        writing, sampling = meter.phases.pop("guided texts"), meter.phases.pop("adapted texts")
        phases = {
            **meter.phases,
            "initial population": meter.phases["initial population"] + writing * (prompted / self.size),
            "guided texts": writing * (profile.guided_texts * rounds / self.size),
            "adapted texts": sampling * (written / self.size),
            "expansion": sampling * (max(0, wanted - written) / self.size),
            "embedding of candidates": Phase(
                embedding * (public + prompted + profile.guided_texts * rounds + max(wanted, written))
            ),
            "adaptation": Phase(self.adaptation_seconds(texts)),
        }
        started = time.perf_counter()
        list(map(text_features, texts))
        counting = rounds * (time.perf_counter() - started) / len(texts)
        return self.add_private_side(phases, embedding, counting, dimension)

    def complete(self, prompts: Sequence[Prompt], rng: np.random.Generator) -> list[str | None]:
        """Ask each label's prompt alike, as often as it takes to see the engine's speed."""
        sampling = Sampling.from_section(self.config.expansion, self.config.prompt_style.stops, rng)
        return self.parts.engine().complete([prompts[row % len(prompts)] for row in range(self.size)], sampling)

    def sample_public_texts(self, rng: np.random.Generator) -> int:
        """Read the public texts as the run does, and count them. Which sets FreD would choose is not known."""
        initial = self.config.initial
        sets = [initial.texts] if initial.texts else initial.public_sets[: initial.public_sets_used]
        return len(sample_public_sets(initial, self.config.profile, Screen(self.config.screening), rng, sets))

    def adaptation_seconds(self, texts: Sequence[str]) -> float:
        """Measure a few steps of the adaptation."""
        models, adapt, speed = self.config.models, self.config.adapt, self.config.speed
        if adapt.method == "none":
            return 0.0
        learner = Learner(models.generator, adapt, speed.device, speed.dtype, 0)
        prompt = adapted_prompts(self.config)[0]
        rows = [row for text in texts[: 2 * adapt.batch_size] if (row := learner.encode(prompt, text)) is not None]
        started = time.perf_counter()
        learner.train_pass(0, rows, lambda rows: None)
        return (time.perf_counter() - started) / len(rows) * adapt.texts * adapt.passes


def _format_duration(seconds: float) -> str:
    """Format the largest two units."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
