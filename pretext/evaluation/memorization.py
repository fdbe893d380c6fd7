"""Memorization check: how much the synthetic texts repeat of the private ones, beside what chance explains.

NOT PRIVATE. The counts come from the private texts themselves, without noise and outside of the ledger. They are for
whoever already holds those texts, and must not be released. Nothing is saved, and the result holds counts alone.

What a count means. A run's guarantee already bounds how much any output can depend on one client, whatever this check
finds. All texts share common phrases, and a generator may have read elsewhere what a client quotes. So every count
stands beside others that private texts cannot have influenced: what the synthetic texts share with public texts, and
what a control group of public texts shares with the private ones. A large excess raises the alarm: one client holds
the same text many times, many clients hold one text, or this program has a defect.

No option drops the texts that were found, none lists them, and the exit code does not depend on them: which texts are
missing from a release would reveal what the private texts hold, and no noise would cover that. On an alarm do not mend
the release, but find the cause, then begin anew, for example with a smaller epsilon.

Not covered: paraphrases that the embedder puts far away, facts without their wording, and private texts beyond their
first 4,000 characters (`pretext.clients.private_data.MAX_PRIVATE_CHARACTERS`) or the embedder's tokens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretext.clients.private_data import read_private
from pretext.errors import RunFolderError, UsageError
from pretext.evaluation.overlap import highest_cosines, longest_runs
from pretext.evolution.expansion import SeedWriter
from pretext.evolution.public_texts import read_public_texts
from pretext.models.engines import Engine
from pretext.progress import show_progress
from pretext.run.folder import Run
from pretext.run.records import Seed
from pretext.run.shards import synthetic_rows
from pretext.screening.screen import Screen
from pretext.separation import check_sources_apart
from pretext.vectors import Embedder

NOT_PRIVATE = (
    "NOT PRIVATE: this check compares with the private texts themselves, without noise. It is for whoever already "
    "holds them; do not release it, and do not choose texts by it."
)
SHARED_WORDS = (5, 8, 13, 20, 30, 50)
"""Lengths of shared runs at which texts are counted, in words."""
SHARED_COSINES = (0.9, 0.95, 0.99)
"""Cosines of embeddings from which two texts count as near duplicates."""
_ALARMING = (13, 0.95)  # below, whole families of texts share a phrase or a subject
_ALL_TEXTS = 2**62  # of a client: those that did not vote may have been memorized elsewhere too
_MAX_PUBLIC_TEXTS = 20_000

RunLengths = NDArray[np.int64]
Cosines = NDArray[np.float32]


@dataclass(frozen=True)
class Overlap:
    """How much a set of texts shares with a corpus.

    Attributes:
        texts: size of the set.
        words: n -> how many texts share at least n words in a row with a text of the corpus.
        longest: the longest shared run, in words.
        cosines: c -> how many texts have a near duplicate of cosine at least c; empty without an embedder.
    """

    texts: int
    words: dict[int, int]
    longest: int
    cosines: dict[float, int]

    @classmethod
    def of(cls, runs: RunLengths, cosines: Cosines | None) -> Overlap:
        """Count texts by their longest shared run and, where there is one, their highest cosine."""
        return cls(
            len(runs),
            {n: int(np.count_nonzero(runs >= n)) for n in SHARED_WORDS},
            int(runs.max(initial=0)),
            {} if cosines is None else {c: int(np.count_nonzero(cosines >= c)) for c in SHARED_COSINES},
        )

    def levels(self, *, alarming: bool = False) -> dict[str, int]:
        """Return the counts by what is shared, in words; or only those that can raise an alarm."""
        words, cosine = _ALARMING if alarming else (0, 0.0)
        return {f"{n} or more words in a row": count for n, count in self.words.items() if n >= words} | {
            f"cosine of {c:g} or more": count for c, count in self.cosines.items() if c >= cosine
        }


@dataclass(frozen=True)
class MemorizationCheck:
    """The result of the check. Not private: see the module.

    Attributes:
        private: the synthetic texts against the private ones.
        public: the synthetic texts against the public source and the initial population.
        candidates: the synthetic texts against the candidates of all later rounds, among them their own examples.
        control: texts without any private influence against the private ones.
    """

    private: Overlap
    public: Overlap
    candidates: Overlap
    control: Overlap

    @property
    def alarms(self) -> list[str]:
        """The levels that more texts reach than public texts and the control group explain."""
        return [
            level
            for level, count in self.private.levels(alarming=True).items()
            if _is_beyond_chance(
                count,
                self.private.texts,
                [(overlap.levels()[level], overlap.texts) for overlap in (self.public, self.control)],
            )
        ]

    def to_json(self) -> str:
        """Write the check as an indented JSON object, with its notice and its alarms."""
        return json.dumps({"not_private": NOT_PRIVATE, **asdict(self), "alarms": self.alarms}, indent=1)


def check_memorization(
    folder: Path,
    *,
    embed: Embedder | None = None,
    engine: Engine | None = None,
    control: int = 0,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> MemorizationCheck:
    """Compare a finished run's synthetic texts with the private ones, with public ones, and with a control group.

    Args:
        folder: of the run; it is only read.
        embed: finds near duplicates; without it only words are compared.
        engine: writes the control group.
        control: how many texts the engine writes as a control group, after examples of the initial population; with 0
            the control group is that population itself, which costs nothing.
        rows: the private rows, for a run whose private texts came from memory.

    Raises:
        RunFolderError: the folder holds no run, or one without synthetic texts.
        UsageError: the private or the public source cannot be read, or they, or the private one and the run folder, are
            the same.
    """
    run, config = Run.open(folder)
    if rows is None and not config.data.path:
        raise UsageError(
            "This run's private texts came from memory; give them again with Result.check_memorization(data)."
        )
    if rows is None:
        check_sources_apart(config.data, config.initial, folder)
    synthetic = [row["text"] for row in synthetic_rows(folder)]
    population = run.population(0)
    if not population:
        raise RunFolderError(f"{folder} holds no initial population; give the whole run folder.")
    initial = [candidate.text for candidate in population]
    control_group = initial
    if engine is not None and control:
        seeds = [Seed(candidate.text, candidate.label, 0, 0.0, 1.0) for candidate in population]
        writer = SeedWriter(seeds, engine, config.expansion, config.prompt_style, config.evolution.seed)
        control_group = _write_control_group(writer, Screen(config.screening), control)
    later = [candidate.text for number in range(1, config.privacy.rounds) for candidate in run.population(number) or []]
    public = chain.from_iterable(
        islice(read_public_texts(config.initial, location, config.screening.max_words), _MAX_PUBLIC_TEXTS)
        for location in config.initial.locations
    )
    with show_progress("Comparing with the private texts", 1, show_counts=False):
        private_texts = read_private(config.data, _ALL_TEXTS, rows).texts
        runs, cosines = _measure_overlap([*synthetic, *control_group], private_texts, embed)
    size = len(synthetic)
    with show_progress("Comparing with public texts and candidates", 1, show_counts=False):
        return MemorizationCheck(
            private=Overlap.of(runs[:size], None if cosines is None else cosines[:size]),
            public=Overlap.of(*_measure_overlap(synthetic, [*initial, *public], embed)),
            candidates=Overlap.of(*_measure_overlap(synthetic, later, embed)),
            control=Overlap.of(runs[size:], None if cosines is None else cosines[size:]),
        )


def _measure_overlap(
    texts: Sequence[str], corpus: Sequence[str], embed: Embedder | None
) -> tuple[RunLengths, Cosines | None]:
    """Measure, for each text, the longest shared run and the highest cosine."""
    return longest_runs(texts, corpus), None if embed is None else highest_cosines(texts, corpus, embed)


def _write_control_group(writer: SeedWriter, screen: Screen, texts: int) -> list[str]:
    """Write texts after examples that no private text has chosen."""
    with show_progress("Writing the control group", texts) as advance:
        return [row["text"] for row in writer.write(0, texts, screen, advance)]


def _is_beyond_chance(count: int, texts: int, references: Sequence[tuple[int, int]]) -> bool:
    """Whether a count is over three standard deviations (Poisson) above what the largest reference share explains.

    A reference is a count and the number of texts among which it was counted.
    """
    expected = texts * max(reference / max(size, 1) for reference, size in references)
    return count > expected + 3 * math.sqrt(expected)
