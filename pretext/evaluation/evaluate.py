"""How good a run's synthetic texts are, measured on private texts that the run never saw.

A student learns from the synthetic texts and is scored on the held-out ones; so does one that learned from the initial
population, which is what epsilon 0 gives, and one that learned from the private training texts, which is what no
privacy gives (epsilon infinity). The gap closed tells where between them the synthetic texts are. Each learns from the
same number of tokens at most, and stops by a tenth of its own texts (300 at most), which it does not learn from.
Distances and diversity are measured on samples of one size.

Every number that comes from here is a function of private texts without noise and NOT covered by the guarantee. It is
for those who may see the private texts: publish one and the guarantee no longer covers what you published. Nothing is
written into the run folder, and of the students nothing is kept.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pretext.config.settings import Config, Data
from pretext.errors import RunFolderError
from pretext.evaluation import metrics
from pretext.evaluation.held_out import Texts, check_apart, read_texts
from pretext.evaluation.student import Score, Student
from pretext.files import finite
from pretext.lazy import Once
from pretext.progress import progress
from pretext.report.diversity import distinct, repeated
from pretext.run.folder import Run
from pretext.run.shards import synthetic_rows
from pretext.vectors import Embedder

NOT_COVERED = (
    "NOT covered by the guarantee: every number here is measured on private texts without noise. Do not publish it."
)
BEFORE, INITIAL, SYNTHETIC, PRIVATE, REAL = "before", "initial", "synthetic", "private", "held out"
KINDS = ("top1", "top3", "top5", "cross_entropy", "bits_per_byte")
_CONFIDENCE = 0.9
_MOST_LEARNED = 100_000
_MOST_VALIDATED = 300  # they are read before training and at every check
_UNCOVERED: dict[str, Any] = {"covered_by_guarantee": False}


@dataclass(frozen=True)
class Question:
    """What is measured, and on what.

    Attributes:
        test: held-out private texts.
        train: the private texts of the run, to learn how much is to be had without privacy; None leaves it out.
        repetitions: students per set of texts, with different seeds.
        tokens: that a student learns from; None: as many as it is made for.
        texts: of each set at most, that are scored and compared.
        seed: for samples and students.
        overlap_known: do not check that test and training clients are different.
    """

    test: Data
    train: Data | None = None
    repetitions: int = 3
    tokens: int | None = None
    texts: int = 2000
    seed: int = 0
    overlap_known: bool = False


def evaluate(folder: Path, question: Question, student: Once[Student], embed: Once[Embedder]) -> dict[str, Any]:
    """All of it, as one JSON object; numbers that are not defined are None.

    Raises:
        RunFolderError: no run, or one without synthetic texts.
        UsageError: a package of the extra `quality` is missing, a file cannot be read, or its clients are not apart
            from those that the run saw.
    """
    metrics.check_packages()
    run, config = Run.open(folder)
    _check_apart(config, question)
    test = read_texts(question.test).sample(question.texts, question.seed)
    learned = _learned(run, folder, question)
    scores = _scores(student(), learned, test, question)
    told = {
        "notice": NOT_COVERED,
        **_UNCOVERED,
        "run": run.id,
        "guarantee_of_the_synthetic_texts": (run.load("privacy.json") or {}).get("guarantee"),
        "student": {"name": student().name, "max_tokens": student().longest, "repetitions": question.repetitions},
        "confidence": _CONFIDENCE,
        "scores": {name: _summary(list(map(asdict, each))) | _UNCOVERED for name, each in scores.items()},
        "gap_closed": _gaps(scores) | _UNCOVERED if PRIVATE in scores else None,
        "metrics": _compared(learned, test, question, embed()),
    }
    return {name: finite(value) for name, value in told.items()}


def _check_apart(config: Config, question: Question) -> None:
    if question.overlap_known:
        return
    for training in (config.data, question.train):
        if training is not None:
            check_apart(question.test, training)


def _learned(run: Run, folder: Path, question: Question) -> dict[str, Texts]:
    """The sets that students learn from, by name."""
    population = run.population(0)
    if population is None:
        raise RunFolderError(f"{folder} holds no initial population; continue the run with `pretext resume {folder}`.")
    rows = list(synthetic_rows(folder))
    sets = {
        INITIAL: Texts([each.text for each in population], [""] * len(population)),  # its labels were dealt out
        SYNTHETIC: Texts([row["text"] for row in rows], [row.get("label", "") for row in rows]),
    }
    if question.train is not None:
        sets[PRIVATE] = read_texts(question.train)
    return {name: texts.sample(_MOST_LEARNED, question.seed) for name, texts in sets.items()}


def _scores(student: Student, learned: dict[str, Texts], test: Texts, question: Question) -> dict[str, list[Score]]:
    scores = {BEFORE: [student.score(test.texts)]}
    with progress("Training students", len(learned) * question.repetitions) as advance:
        for name, texts in learned.items():
            kept = min(len(texts.texts) // 10, _MOST_VALIDATED)
            scores[name] = []
            for repetition in range(question.repetitions):
                taught = student.train(
                    texts.texts[kept:],
                    validation=texts.texts[:kept],
                    seed=question.seed + repetition,
                    tokens=question.tokens,
                )
                scores[name].append(taught.score(test.texts))
                advance(1)
    return scores


def _gaps(scores: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    """Gap closed per repetition, by each kind of score."""
    three = zip(scores[SYNTHETIC], scores[INITIAL], scores[PRIVATE], strict=True)
    values = [{name: metrics.gap_closed(*(getattr(score, name) for score in each)) for name in KINDS} for each in three]
    return _summary(values)


def _summary(values: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Mean, interval and single values over repetitions; the interval holds the students' luck alone."""
    told = {}
    for name in KINDS:
        single = [each[name] for each in values]
        mean = statistics.fmean(single)
        told[name] = {"mean": mean, "interval": interval(single), "values": single}
    return told


def interval(values: Sequence[float], confidence: float = _CONFIDENCE) -> list[float] | None:
    """Student's t interval of the mean; None for a single value, and where one is undefined, as is the gap closed
    between equal ends."""
    from scipy.stats import t

    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    mean = statistics.fmean(values)
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return [mean - half, mean + half]


@dataclass(frozen=True)
class _Measured:
    """A sample of texts with its embeddings."""

    texts: Texts = field(repr=False)
    rows: metrics.Rows = field(repr=False)


def _compared(learned: dict[str, Texts], test: Texts, question: Question, embed: Embedder) -> dict[str, Any]:
    """Metrics of each set against the held-out texts, on samples of one size."""
    size = min(question.texts, *(len(texts.texts) for texts in [*learned.values(), test]))
    samples = {name: texts.sample(size, question.seed) for name, texts in (learned | {REAL: test}).items()}
    made = {
        name: _Measured(texts, embed(texts.texts, announce=f"Embedding texts ({name})"))
        for name, texts in samples.items()
    }
    told = {name: _against(made[name], made[REAL]) | _diversity(samples[name].texts) for name in learned}
    told[REAL] = _diversity(samples[REAL].texts)
    return {name: values | _UNCOVERED for name, values in told.items()}


def _against(one: _Measured, reference: _Measured) -> dict[str, float]:
    precision, recall = metrics.precision_recall(one.rows, reference.rows)
    labels = one.texts.labels, reference.texts.labels
    return {
        "frechet": metrics.frechet_distance(one.rows, reference.rows),
        "mauve": metrics.mauve(one.rows, reference.rows),
        "precision": precision,
        "recall": recall,
        "cluster_coverage": metrics.cluster_coverage(one.rows, reference.rows),
        "classifier_transfer": metrics.classifier_transfer(one.rows, labels[0], reference.rows, labels[1]),
    }


def _diversity(texts: Sequence[str]) -> dict[str, float]:
    return {
        **{f"distinct_{n}": distinct(texts, n) for n in (1, 2, 3)},
        "self_bleu": metrics.self_bleu(texts),
        "duplicate_rate": repeated(texts),
    }
