"""What a run folder tells, as values for the page. All of it is public: inputs, releases, and what was made of them."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretext.config.settings import Config
from pretext.errors import RunFolderError
from pretext.files import Row
from pretext.report.diversity import Diversity, measure_diversity
from pretext.report.rows import read_rows_with_progress
from pretext.run.folder import Run
from pretext.run.records import Selection
from pretext.run.shards import Shards

MAX_SHOWN_TEXTS, MAX_SHOWN_SEEDS, COMPARED_TEXTS = 500, 200, 1000
_WINNERS = 5
_SIGNAL_SIGMAS = 4.0  # noise alone is called a signal once in 30,000 rounds


@dataclass(frozen=True)
class Round:
    """A round of voting as it was released.

    Attributes:
        votes: shape (n,), noisy votes, most first.
        sigma: standard deviation of their noise, in votes; threshold: likewise in votes.
        survivors: row numbers in the population.
        winners: the first survivors' texts with their noisy votes.
        dropped: texts dropped while this round's candidates were made, by reason.
        points: shape (at most n, d), where the candidates stand; None if the folder does not tell.
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
        """Candidates with more noisy votes than the threshold."""
        return int(np.count_nonzero(self.votes > self.threshold))

    @property
    def above_by_chance(self) -> float:
        """How many would be above it if nobody had voted."""
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
        """The signal in words; the test is that of a chi-squared variance (Wilson and Hilferty 1931)."""
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
        version: of the program that began the run.
        privacy: the statement; None where it was not written yet.
        initial_texts: texts of the first population.
        synthetic: a sample of at most COMPARED rows; `written` is how many there are, `dropped` how many are not kept.
    """

    run: Run
    config: Config
    version: str
    privacy: dict[str, Any] | None
    rounds: list[Round]
    initial_texts: list[str]
    seeds: list[dict[str, Any]]
    synthetic: list[Row]
    texts_written: int
    dropped: dict[str, int]
    timings: dict[str, dict[str, float]]

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Of a run folder, finished or not; files of earlier versions may be missing.

        Raises:
            RunFolderError: this is no run folder, or a file in it is damaged.
        """
        run, config = Run.open(folder)
        expansion, texts = run.load("expansion.json") or {}, Shards.of(config.expansion, run)
        rng = np.random.default_rng(config.evolution.seed)
        return cls(
            run,
            config,
            str((run.load("run.json") or {}).get("pretext", "of an unknown version")),
            run.load("privacy.json"),
            list(_read_rounds(run)),
            [candidate.text for candidate in run.population(0) or []],
            _read_seeds(folder),
            _sample_rows(
                read_rows_with_progress(folder, "Reading the texts") if texts.files else [], COMPARED_TEXTS, rng
            ),
            int(expansion.get("kept", 0)),
            dict(expansion.get("dropped", {})),
            run.load("timings.json") or {},
        )

    @property
    def missing(self) -> list[str]:
        """What an unfinished run lacks, a sentence each."""
        planned, wanted = self.config.privacy.rounds, self.config.expansion.texts
        lacks = {
            f"{len(self.rounds)} of {planned} rounds of voting are finished.": len(self.rounds) < planned,
            "There is no privacy statement yet; the ledger tells what was spent.": self.privacy is None,
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
        return {name: found for name, found in measured.items() if found is not None}


def _read_rounds(run: Run) -> Iterator[Round]:
    """The finished rounds, in order."""
    for number in count():
        selected, population = run.selection(number), run.population(number)
        if selected is None or population is None:
            return
        made = run.load(f"population/{number:03}.json")
        winners = [(population[row].text, selected.noisy[row]) for row in selected.survivors[:_WINNERS]]
        yield _make_round(number, selected, winners, made.get("dropped", {}), run.positions(number))


def _make_round(
    number: int,
    selected: Selection,
    winners: list[tuple[str, float]],
    dropped: dict[str, int],
    points: NDArray[np.float32] | None,
) -> Round:
    votes = np.sort(np.array(selected.noisy, dtype=np.float64))[::-1]
    threshold = selected.threshold * selected.sigma
    return Round(number, votes, selected.sigma, threshold, selected.survivors, winners, dropped, points)


def _read_seeds(folder: Path) -> list[dict[str, Any]]:
    path = folder / "seeds.jsonl"
    try:
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({type(error).__name__}); resume the run to write it anew."
        ) from None


def _sample_rows(rows: Iterable[Row], size: int, rng: np.random.Generator) -> list[Row]:
    """A uniform sample in one pass, in the order of the rows; memory for `size` of them."""
    drawn = heapq.nlargest(
        size, ((rng.random(), place, row) for place, row in enumerate(rows)), key=lambda one: one[:2]
    )
    return [row for _, _, row in sorted(drawn, key=lambda one: one[1])]
