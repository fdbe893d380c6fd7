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
from pretext.evaluation.held_out import LabeledTexts, check_disjoint, read_labeled_texts
from pretext.evaluation.student import Score, Student
from pretext.files import replace_nonfinite
from pretext.lazy import Once
from pretext.progress import show_progress
from pretext.report.diversity import distinct_share, repeated_share
from pretext.run.folder import Run
from pretext.run.shards import synthetic_rows
from pretext.vectors import Embedder

NOT_COVERED = (
    "NOT covered by the guarantee: every number here is measured on private texts without noise. Do not publish it."
)
BEFORE, INITIAL, SYNTHETIC, PRIVATE, REAL = "before", "initial", "synthetic", "private", "held out"
SCORE_KINDS = ("top1", "top3", "top5", "cross_entropy", "bits_per_byte")
_CONFIDENCE = 0.9
_MAX_TRAINING_TEXTS = 100_000
_MAX_VALIDATION_TEXTS = 300  # they are read before training and at every check
_UNCOVERED: dict[str, Any] = {"covered_by_guarantee": False}


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured, and on what.

    Attributes:
        test: held-out private texts.
        train: the private texts of the run, to learn how much is to be had without privacy; None leaves it out.
        repetitions: students per set of texts, with different seeds.
        tokens: that a student learns from; None: as many as it is made for.
        texts: of each set at most, that are scored and compared.
        seed: for samples and students.
        allow_overlap: do not check that test and training clients are different.
    """

    test: Data
    train: Data | None = None
    repetitions: int = 3
    tokens: int | None = None
    texts: int = 2000
    seed: int = 0
    allow_overlap: bool = False


def evaluate_run(
    folder: Path, settings: EvaluationSettings, student: Once[Student], embed: Once[Embedder]
) -> dict[str, Any]:
    """All of it, as one JSON object; numbers that are not defined are None.

    Raises:
        RunFolderError: no run, or one without synthetic texts.
        UsageError: a package of the extra `quality` is missing, a file cannot be read, or its clients are not apart
            from those that the run saw.
    """
    metrics.check_packages()
    run, config = Run.open(folder)
    _check_clients_disjoint(config, settings)
    test = read_labeled_texts(settings.test).sample(settings.texts, settings.seed)
    learned = _training_sets(run, folder, settings)
    scores = _score_students(student(), learned, test, settings)
    told = {
        "notice": NOT_COVERED,
        **_UNCOVERED,
        "run": run.id,
        "guarantee_of_the_synthetic_texts": (run.load("privacy.json") or {}).get("guarantee"),
        "student": {"name": student().name, "max_tokens": student().longest, "repetitions": settings.repetitions},
        "confidence": _CONFIDENCE,
        "scores": {name: _summarize(list(map(asdict, each))) | _UNCOVERED for name, each in scores.items()},
        "gap_closed": _summarize_gaps(scores) | _UNCOVERED if PRIVATE in scores else None,
        "metrics": _measure_metrics(learned, test, settings, embed()),
    }
    return {name: replace_nonfinite(value) for name, value in told.items()}


def _check_clients_disjoint(config: Config, settings: EvaluationSettings) -> None:
    if settings.allow_overlap:
        return
    for training in (config.data, settings.train):
        if training is not None:
            check_disjoint(settings.test, training)


def _training_sets(run: Run, folder: Path, settings: EvaluationSettings) -> dict[str, LabeledTexts]:
    """The sets that students learn from, by name."""
    population = run.population(0)
    if population is None:
        raise RunFolderError(f"{folder} holds no initial population; continue the run with `pretext resume {folder}`.")
    rows = list(synthetic_rows(folder))
    sets = {
        INITIAL: LabeledTexts([each.text for each in population], [""] * len(population)),  # its labels were dealt out
        SYNTHETIC: LabeledTexts([row["text"] for row in rows], [row.get("label", "") for row in rows]),
    }
    if settings.train is not None:
        sets[PRIVATE] = read_labeled_texts(settings.train)
    return {name: texts.sample(_MAX_TRAINING_TEXTS, settings.seed) for name, texts in sets.items()}


def _score_students(
    student: Student, learned: dict[str, LabeledTexts], test: LabeledTexts, settings: EvaluationSettings
) -> dict[str, list[Score]]:
    scores = {BEFORE: [student.score(test.texts)]}
    with show_progress("Training students", len(learned) * settings.repetitions) as advance:
        for name, texts in learned.items():
            kept = min(len(texts.texts) // 10, _MAX_VALIDATION_TEXTS)
            scores[name] = []
            for repetition in range(settings.repetitions):
                taught = student.train(
                    texts.texts[kept:],
                    validation=texts.texts[:kept],
                    seed=settings.seed + repetition,
                    tokens=settings.tokens,
                )
                scores[name].append(taught.score(test.texts))
                advance(1)
    return scores


def _summarize_gaps(scores: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    """Gap closed per repetition, by each kind of score."""
    three = zip(scores[SYNTHETIC], scores[INITIAL], scores[PRIVATE], strict=True)
    values = [
        {name: metrics.gap_closed(*(getattr(score, name) for score in each)) for name in SCORE_KINDS} for each in three
    ]
    return _summarize(values)


def _summarize(values: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Mean, interval and single values over repetitions; the interval holds the students' luck alone."""
    told = {}
    for name in SCORE_KINDS:
        single = [each[name] for each in values]
        mean = statistics.fmean(single)
        told[name] = {"mean": mean, "interval": confidence_interval(single), "values": single}
    return told


def confidence_interval(values: Sequence[float], confidence: float = _CONFIDENCE) -> list[float] | None:
    """Student's t interval of the mean; None for a single value, and where one is undefined, as is the gap closed
    between equal ends."""
    from scipy.stats import t

    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    mean = statistics.fmean(values)
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return [mean - half, mean + half]


@dataclass(frozen=True)
class _EmbeddedSample:
    """A sample of texts with its embeddings."""

    texts: LabeledTexts = field(repr=False)
    rows: metrics.EmbeddingRows = field(repr=False)


def _measure_metrics(
    learned: dict[str, LabeledTexts], test: LabeledTexts, settings: EvaluationSettings, embed: Embedder
) -> dict[str, Any]:
    """Metrics of each set against the held-out texts, on samples of one size."""
    size = min(settings.texts, *(len(texts.texts) for texts in [*learned.values(), test]))
    samples = {name: texts.sample(size, settings.seed) for name, texts in (learned | {REAL: test}).items()}
    made = {
        name: _EmbeddedSample(texts, embed(texts.texts, announce=f"Embedding texts ({name})"))
        for name, texts in samples.items()
    }
    told = {
        name: _compare_samples(made[name], made[REAL]) | _diversity_metrics(samples[name].texts) for name in learned
    }
    told[REAL] = _diversity_metrics(samples[REAL].texts)
    return {name: values | _UNCOVERED for name, values in told.items()}


def _compare_samples(sample: _EmbeddedSample, reference: _EmbeddedSample) -> dict[str, float]:
    precision, recall = metrics.precision_recall(sample.rows, reference.rows)
    labels = sample.texts.labels, reference.texts.labels
    return {
        "frechet": metrics.frechet_distance(sample.rows, reference.rows),
        "mauve": metrics.mauve_score(sample.rows, reference.rows),
        "precision": precision,
        "recall": recall,
        "cluster_coverage": metrics.cluster_coverage(sample.rows, reference.rows),
        "classifier_transfer": metrics.classifier_transfer(sample.rows, labels[0], reference.rows, labels[1]),
    }


def _diversity_metrics(texts: Sequence[str]) -> dict[str, float]:
    return {
        **{f"distinct_{n}": distinct_share(texts, n) for n in (1, 2, 3)},
        "self_bleu": metrics.self_bleu(texts),
        "duplicate_rate": repeated_share(texts),
    }
