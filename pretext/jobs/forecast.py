"""What a run will take, foretold: tokens, seconds and memory, from a short measurement on public texts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pretext.clients.voting import Ballot, Clients
from pretext.config.settings import Config
from pretext.evolution.expansion import PromptSampler
from pretext.jobs.parts import Parts
from pretext.jobs.run import make_first_population, vote_rule
from pretext.jobs.timing import Meter, Phase
from pretext.models.engines import Sampling
from pretext.prompts import extract_answer
from pretext.run.records import Candidate, Seed
from pretext.screening.screen import Screen

_SAMPLE = {"transformers": 64}
_LARGE_SAMPLE = 256  # engines that schedule by themselves are fast only with many prompts
_VOTING_SAMPLE = 20_000
_TEXT_BYTES = 500  # a private text of chat or note length, as a Python string with its table's overhead
Done = TypeVar("Done")


@dataclass(frozen=True)
class Forecast:
    """What a run will take on this machine.

    Attributes:
        phases: seconds and tokens by name: those of timings.json, `clients` if their number is stated, and `finding
            candidates` (at most) where FreD chooses among them.
        memory: peak of all processes together, in bytes.
    """

    phases: dict[str, Phase]
    memory: int

    @property
    def total(self) -> Phase:
        """Sum over the phases."""
        return sum(self.phases.values(), Phase())

    def describe(self) -> str:
        """Lines for people."""
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
    """Open the models, do a sample of every kind of work and multiply. Nothing private is touched.

    The sample is public texts (or texts written from the prompts), so private texts count as if they were as long, and
    every client as having the most texts allowed: without `privacy.clients` their side is left out.

    Raises:
        ModelError, EngineError, UsageError: as the run itself would.
    """
    meter = Meter(parts.engine)
    size = config.evolution.population
    sample = min(size, _SAMPLE.get(config.speed.engine, _LARGE_SAMPLE))
    with meter.phase("loading models"):
        parts.embedder(), parts.engine(), parts.variation()
    population = _sample_population(config, parts, meter, sample)
    rng = np.random.default_rng(0)
    with meter.phase("variations"):
        parts.variation()(population, population, rng)
    texts = [candidate.text for candidate in population]
    with meter.phase("embedding of candidates"):
        points = parts.embedder()(texts)
    kept = _sample_expansion(config, parts, meter, population, rng)
    rounds, lookahead = config.privacy.rounds, config.evolution.lookahead
    varied = (rounds - 1) * (1 - config.evolution.kept_parents) + rounds * lookahead
    times = {
        "variations": varied * size / len(population),
        "embedding of candidates": rounds * (1 + lookahead) * size / len(population),
        "expansion": config.expansion.texts / kept,
    }
    phases = {name: phase * times.get(name, 1) for name, phase in meter.phases.items()}
    per_text = meter.phases["embedding of candidates"].seconds / len(population)
    if config.initial.public_sets:
        phases["finding candidates"] = Phase(
            per_text * len(config.initial.public_sets) * config.initial.public_set_texts
        )
    if config.privacy.clients is not None:
        phases["clients"] = Phase(_estimate_client_seconds(config, per_text, points.shape[1]))
    return Forecast(phases, _estimate_memory(config, points.shape[1]))


def _sample_population(config: Config, parts: Parts, meter: Meter, sample: int) -> list[Candidate]:
    """A small initial population; reading public texts counts as it is, writing from prompts by the number of texts."""
    evolution, initial = config.evolution, config.initial
    small = config.model_copy(update={"evolution": evolution.model_copy(update={"population": sample})})
    with meter.phase("initial population"):
        engine = parts.engine() if initial.prompts else None
        # Which candidates FreD would choose is not known; any of them take as long to read.
        population = make_first_population(
            small, Screen(config.screening), engine, initial.public_sets[: initial.public_sets_used]
        )
    if initial.prompts:
        meter.phases["initial population"] *= evolution.population / sample
    return population


def _sample_expansion(
    config: Config, parts: Parts, meter: Meter, population: list[Candidate], rng: np.random.Generator
) -> int:
    """How many of the answers to a sample of prompts pass the screening; at least 1."""
    seeds = [Seed(candidate.text, candidate.label, 0, 1.0, 1.0) for candidate in population]
    sampling = Sampling.from_section(config.expansion, config.prompt_style.stops, rng)
    prompts, _ = PromptSampler(seeds, config.expansion.examples, config.prompt_style).draw(len(population), rng)
    screen = Screen(config.screening)
    with meter.phase("expansion"):
        answers = [extract_answer(completion) for completion in parts.engine().complete(prompts, sampling)]
    return max(1, sum(screen.keep(text) for text in answers))


def _estimate_client_seconds(config: Config, seconds_per_text: float, dimension: int) -> float:
    """Embedding all clients' texts once, and voting with them in every round."""
    privacy, size = config.privacy, config.evolution.population
    texts = (privacy.clients or 0) * privacy.max_texts_per_client
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((_VOTING_SAMPLE, dimension), np.float32)
    none = np.zeros(_VOTING_SAMPLE, np.int64)
    clients = Clients(rows, np.arange(_VOTING_SAMPLE, dtype=np.int64), none)
    ballot = Ballot(rng.standard_normal((size, dimension), np.float32), np.zeros(size, np.int64))
    voting, _ = _time_call(lambda: clients.vote(ballot, vote_rule(config)))
    return texts * (seconds_per_text + privacy.rounds * voting / _VOTING_SAMPLE)


def _estimate_memory(config: Config, dimension: int) -> int:
    """What is in use now with all models open and used, and what the clients' texts will add."""
    import psutil

    this = psutil.Process()
    used = sum(process.memory_info().rss for process in [this, *this.children(recursive=True)])
    texts = (config.privacy.clients or 0) * config.privacy.max_texts_per_client
    return int(used + texts * (4 * dimension + _TEXT_BYTES))


def _format_duration(seconds: float) -> str:
    """The largest two units."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _time_call(work: Callable[[], Done]) -> tuple[float, Done]:
    started = time.perf_counter()
    done = work()
    return time.perf_counter() - started, done
