"""Memorization check: what of the private texts stands in the synthetic ones, beside what chance would explain.

NOT PRIVATE. Counts are taken from the private texts themselves, without noise and outside of the ledger. They are for
whoever already holds those texts, and must not be released. Nothing is saved, and only counts are told.

What a count means. A run's guarantee already bounds how much any output can depend on one client, whatever this check
finds; common phrases are shared by all texts, and a generator may have read elsewhere what a client quotes. So every
count stands beside others that private texts cannot have influenced: what the synthetic texts share with public texts,
and what a control group of public texts shares with the private ones. A large excess is the alarm: of a client that
holds the same text many times, of one text that was given to many clients, or of a defect of this program.

There is no option that drops the texts that were found, none that lists them, and the exit code does not depend on
them: which texts are missing from a release would tell what the private texts hold, and no noise would cover that. On
an alarm do not mend the release, but find the cause, then begin anew, for example with a smaller epsilon.

Not covered: paraphrases that the embedder puts far away, facts without their wording, and private texts beyond their
first 4,000 characters (`private.LONGEST_TEXT`) or the embedder's tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretext.clients.private_data import read_private
from pretext.config.settings import Config
from pretext.errors import RunFolderError, UsageError
from pretext.evaluation.overlap import highest_cosines, longest_runs
from pretext.evolution.expansion import Writer
from pretext.evolution.public_texts import public_set_locations, read_public_texts
from pretext.models.engines import Engine
from pretext.progress import show_progress
from pretext.run.folder import Run
from pretext.run.records import Seed
from pretext.run.shards import synthetic_rows
from pretext.screening.screen import Screen
from pretext.vectors import Embedder

SHARED_WORDS = (5, 8, 13, 20, 30, 50)
"""Lengths of shared runs that are counted, in words."""
SHARED_COSINES = (0.9, 0.95, 0.99)
"""Cosines of embeddings from which two texts count as near duplicates."""
_ALARMING = (13, 0.95)  # below, whole families of texts share a phrase or a subject
_ALL_TEXTS = 2**62  # texts of a client: those that did not vote may have been memorized elsewhere too
_MAX_PUBLIC_TEXTS = 20_000

RunLengths = NDArray[np.int64]
Cosines = NDArray[np.float32]


@dataclass(frozen=True)
class Overlap:
    """How many of some texts share how much with a corpus.

    Attributes:
        texts: how many there are.
        words: n -> how many of them share at least n words in a row with a text of the corpus.
        longest: the longest shared run, in words.
        cosines: c -> how many have a near duplicate of cosine at least c; empty without an embedder.
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
        """The counts by what is shared, in words; or only those that can raise an alarm."""
        words, cosine = _ALARMING if alarming else (0, 0.0)
        return {f"{n} or more words in a row": count for n, count in self.words.items() if n >= words} | {
            f"cosine of {c:g} or more": count for c, count in self.cosines.items() if c >= cosine
        }


@dataclass(frozen=True)
class MemorizationCheck:
    """The answer. Not private: see the module.

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
        """The long runs and near duplicates of which there are more than public texts and the control group explain."""
        return [
            level
            for level, count in self.private.levels(alarming=True).items()
            if _is_beyond_chance(
                count,
                self.private.texts,
                [(each.levels()[level], each.texts) for each in (self.public, self.control)],
            )
        ]


def check_memorization(
    config: Config,
    run: Run,
    *,
    embed: Embedder | None = None,
    engine: Engine | None = None,
    control: int = 0,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> MemorizationCheck:
    """Compare a finished run's synthetic texts with the private ones, with public ones, and with a control group.

    Args:
        config, run: an opened run folder.
        embed: for near duplicates; without it only words are compared.
        engine: writes the control group.
        control: texts that the engine writes after examples of the initial population as a control group; with 0 that
            population itself, which costs nothing, is the control group.
        rows: the private rows, for a run whose private texts came from memory.

    Raises:
        RunFolderError: there are no synthetic texts yet.
        UsageError: the private or the public source cannot be read.
    """
    if rows is None and not config.data.path:
        raise UsageError("This run's private texts came from memory; hand them over with Result.memorization(data).")
    synthetic = [row["text"] for row in synthetic_rows(run.folder)]
    initial = [candidate.text for candidate in run.population(0) or []]
    if not initial:
        raise RunFolderError(f"{run.folder} holds no initial population; give the whole run folder.")
    uninfluenced = _write_control_group(config, run, engine, control) if engine is not None and control else initial
    with show_progress("Comparing with the private texts", 1, show_counts=False):
        runs, cosines = _measure_overlap(
            [*synthetic, *uninfluenced], read_private(config.data, _ALL_TEXTS, rows).texts, embed
        )
    ours, others = slice(len(synthetic)), slice(len(synthetic), None)
    with show_progress("Comparing with public texts and candidates", 1, show_counts=False):
        public = Overlap.of(*_measure_overlap(synthetic, [*initial, *_read_public_texts(config)], embed))
        candidates = Overlap.of(*_measure_overlap(synthetic, list(_later_candidates(config, run)), embed))
    return MemorizationCheck(
        Overlap.of(runs[ours], None if cosines is None else cosines[ours]),
        public,
        candidates,
        Overlap.of(runs[others], None if cosines is None else cosines[others]),
    )


def _measure_overlap(
    texts: Sequence[str], corpus: Sequence[str], embed: Embedder | None
) -> tuple[RunLengths, Cosines | None]:
    """Of each text, the longest shared run and the highest cosine."""
    return longest_runs(texts, corpus), None if embed is None else highest_cosines(texts, corpus, embed)


def _read_public_texts(config: Config) -> Iterator[str]:
    """The first texts of each public source."""
    for location in public_set_locations(config.initial):
        yield from islice(read_public_texts(config.initial, location, config.screening.max_words), _MAX_PUBLIC_TEXTS)


def _later_candidates(config: Config, run: Run) -> Iterator[str]:
    """The candidates that were influenced by releases."""
    for round_number in range(1, config.privacy.rounds):
        yield from (candidate.text for candidate in run.population(round_number) or [])


def _write_control_group(config: Config, run: Run, engine: Engine, texts: int) -> list[str]:
    """What the generator writes after examples that no private text has chosen."""
    seeds = [Seed(candidate.text, candidate.label, 0, 0.0, 1.0) for candidate in run.population(0) or []]
    writer = Writer(seeds, engine, config.expansion, config.prompt_style, config.evolution.seed)
    with show_progress("Writing the control group", texts) as advance:
        rows = writer.write(0, texts, Screen(config.screening), advance)
    return [row["text"] for row in rows]


def _is_beyond_chance(count: int, texts: int, others: Sequence[tuple[int, int]]) -> bool:
    """Whether a count is more than three standard deviations (Poisson) above what the largest other share explains."""
    expected = texts * max(other / max(among, 1) for other, among in others)
    return count > expected + 3 * math.sqrt(expected)
