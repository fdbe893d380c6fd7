"""What the report shows of a run folder, as values. All is public: inputs, releases, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretext.config.settings import Config
from pretext.errors import RunFolderError
from pretext.files import Row
from pretext.report.diversity import Diversity, measure_diversity
from pretext.report.profile_facts import ProfileFacts
from pretext.run.folder import Run
from pretext.run.privacy_statement import PrivacyStatement
from pretext.run.records import Phase, SeedLine
from pretext.run.shards import Shards, synthetic_rows
from pretext.texts import Reservoir

MAX_SHOWN_TEXTS, MAX_SHOWN_SEEDS, COMPARED_TEXTS = 500, 200, 1000
_WINNERS = 5
_SIGNAL_SIGMAS = 4.0  # calls noise alone a signal once in 30,000 rounds


@dataclass(frozen=True)
class Round:
    """A round of voting as it was released.

    Attributes:
        votes: shape (n,), noisy votes, most first.
        sigma: standard deviation of their noise, in votes; threshold: likewise in votes.
        survivors: row numbers in the population.
        winners: the first survivors' texts with their noisy votes.
        dropped: texts dropped while this round's candidates were made, by reason.
        points: shape (at most n, d), positions of the first candidates; None if their file was deleted.
    """

    number: int
    votes: NDArray[np.float64]
    sigma: float
    threshold: float
    survivors: list[int]
    winners: list[tuple[str, float]]
    dropped: dict[str, int]
    points: NDArray[np.float32] | None

    @property
    def above(self) -> int:
        """Count the candidates with more noisy votes than the threshold."""
        return int(np.count_nonzero(self.votes > self.threshold))

    @property
    def above_by_chance(self) -> float:
        """Expected number of candidates above it if nobody had voted."""
        return len(self.votes) * math.erfc(self.threshold / self.sigma / math.sqrt(2)) / 2

    @property
    def share_above(self) -> float:
        """Share of the positive noisy votes that lies above the threshold."""
        positive = self.votes[self.votes > 0].sum()
        return float(np.maximum(self.votes - self.threshold, 0).sum() / positive) if positive > 0 else 0.0

    @property
    def signal_to_noise(self) -> float:
        """Estimated spread of the true votes over the candidates / spread of the noise.

        The variance of the noisy votes is that of the true ones plus sigma^2, which is known, so this costs nothing.
        """
        return math.sqrt(max(self._variance_ratio - 1, 0.0))

    @property
    def verdict(self) -> str:
        """Describe the signal in words; the test is that of a chi-squared variance (Wilson and Hilferty 1931)."""
        width = 2 / (9 * max(len(self.votes) - 1, 1))
        if self._variance_ratio < (1 - width + _SIGNAL_SIGMAS * math.sqrt(width)) ** 3:
            return "cannot be told from noise"
        return "clear" if self.signal_to_noise >= 1 else "weak"

    @property
    def _variance_ratio(self) -> float:
        return float(self.votes.var(ddof=1)) / self.sigma**2 if len(self.votes) > 1 else 1.0


@dataclass(frozen=True)
class Facts:
    """Everything that the report shows.

    Attributes:
        run, config: the folder and its settings.
        privacy: the statement; None where it was not written yet.
        rounds: the finished ones of votes, in order.
        profile: of a run that released profiles; None for one of votes.
        initial_texts: texts of the first population.
        seeds: heaviest first.
        synthetic: a uniform sample of at most COMPARED_TEXTS rows, in order.
        texts_written: number of synthetic texts.
        dropped: texts dropped by the expansion, by reason.
        timings: what each phase took.
    """

    run: Run
    config: Config
    privacy: PrivacyStatement | None
    rounds: list[Round]
    profile: ProfileFacts | None
    initial_texts: list[str]
    seeds: list[SeedLine]
    synthetic: list[Row]
    texts_written: int
    dropped: dict[str, int]
    timings: dict[str, Phase]

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Read a run folder, finished or not.

        Raises:
            RunFolderError: this is no run folder, or a file in it is damaged.
        """
        run, config = Run.open(folder)
        privacy, expansion = run.statement(), run.expansion_state()
        run.require_texts()
        rows = synthetic_rows(folder, "Reading the texts") if Shards.of(config.expansion, run).files else []
        return cls(
            run,
            config,
            privacy,
            list(_read_rounds(run)),
            ProfileFacts.read(run) if config.privacy.release == "profile" else None,
            [candidate.text for candidate in run.population(0) or []],
            run.seed_lines(),
            sample_rows(rows, COMPARED_TEXTS, np.random.default_rng(config.evolution.seed)),
            expansion.kept,
            expansion.dropped,
            run.timings(),
        )

    @property
    def missing(self) -> list[str]:
        """What an unfinished run lacks, a sentence each."""
        planned, wanted = self.config.privacy.rounds, self.config.expansion.texts
        finished = len(self.rounds if self.profile is None else self.profile.rounds)
        lacks = {
            f"{finished} of {planned} rounds are finished.": finished < planned,
            "There is no privacy statement yet; the ledger knows what was spent.": self.privacy is None,
            "There are no seeds yet.": not self.seeds,
            f"{self.texts_written:,} of {wanted:,} synthetic texts are written.": self.texts_written < wanted,
        }
        return [sentence for sentence, true in lacks.items() if true]

    @cached_property
    def diversities(self) -> dict[str, Diversity]:
        """Diversity of the synthetic texts and of the first population, at equal numbers of texts."""
        sets = {"synthetic texts": [row["text"] for row in self.synthetic], "first population": self.initial_texts}
        least = min((len(texts) for texts in sets.values() if texts), default=0)
        measured = {name: measure_diversity(texts[:least]) for name, texts in sets.items()}
        return {name: diversity for name, diversity in measured.items() if diversity is not None}


def _read_rounds(run: Run) -> Iterator[Round]:
    """Read the finished rounds, in order."""
    for number in count():
        selection, population = run.selection(number), run.population(number)
        if selection is None or population is None:
            return
        if len(population) != len(selection.noisy):
            raise RunFolderError(f"{run.folder} holds votes of round {number} for other candidates; restore its files.")
        yield Round(
            number,
            votes=np.sort(np.array(selection.noisy, dtype=np.float64))[::-1],
            sigma=selection.sigma,
            threshold=selection.threshold * selection.sigma,
            survivors=selection.survivors,
            winners=[(population[row].text, selection.noisy[row]) for row in selection.survivors[:_WINNERS]],
            dropped=run.drop_counts(number),
            points=run.positions(number),
        )


def sample_rows(rows: Iterable[Row], size: int, rng: np.random.Generator) -> list[Row]:
    """Draw a uniform sample of at most `size` rows in one pass, in the order of the rows."""
    reservoir = Reservoir[tuple[int, Row]](size, lambda n: int(rng.integers(n)))
    for numbered_row in enumerate(rows):
        reservoir.add(numbered_row)
    return [row for _, row in sorted(reservoir.sample, key=itemgetter(0))]
