"""How good a run's synthetic texts are, measured on private texts that the run never saw.

A student learns from the synthetic texts and is scored on the held-out ones. So does one that learned from the initial
population, which is what epsilon 0 gives, and one that learned from the private training texts, which is what no
privacy gives (epsilon infinity). The gap closed places the synthetic texts between the two. All students learn from the
same number of tokens at most, and stop by a tenth of their own texts (300 at most), from which they do not learn.
Distances and diversity are measured on samples of one size.

Every number that comes from here is a function of private texts without noise and NOT covered by the guarantee. It is
for those who may see the private texts: publish one and the guarantee no longer covers what you published. Nothing is
written into the run folder, and no student is saved.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pretext.config.settings import Data
from pretext.errors import RunFolderError
from pretext.evaluation import metrics
from pretext.evaluation.held_out import LabeledTexts, check_disjoint, read_labeled_texts
from pretext.evaluation.student import Score, Student
from pretext.formatting import quote_path
from pretext.lazy import Once
from pretext.progress import show_progress
from pretext.report.diversity import distinct_share, repetition_share
from pretext.report.evaluation import (
    BEFORE,
    HELD_OUT,
    INITIAL,
    PRIVATE,
    SCORE_TITLES,
    SYNTHETIC,
    Estimate,
    Evaluation,
    Guarantee,
    ScoreEstimates,
    SetMetrics,
    SetName,
    StudentSettings,
)
from pretext.run.folder import Run
from pretext.run.shards import synthetic_rows
from pretext.separation import check_sources_apart
from pretext.vectors import Embedder

_CONFIDENCE = 0.9
_MAX_TRAINING_TEXTS = 100_000
_MAX_VALIDATION_TEXTS = 300  # they are read before training and at every check

Sets = dict[SetName, LabeledTexts]


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured, and on what.

    Attributes:
        test: held-out private texts.
        train: the private texts of the run, to learn what no privacy would give; None leaves that out.
        repetitions: students per set of texts, with different seeds.
        tokens: that a student learns from; None: as many as it is made for.
        texts: of each set, at most so many are scored and compared.
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
) -> Evaluation:
    """Train and score students, and compute the metrics. The run folder is only read.

    Raises:
        RunFolderError: the folder holds no run, or one without synthetic texts.
        UsageError: a package of the extra `quality` is missing, a file cannot be read, or its clients overlap with
            those that the run saw.
    """
    metrics.check_packages()
    run, config = Run.open(folder)
    for private in filter(None, (settings.test, settings.train)):
        check_sources_apart(private, config.initial, folder)
    if not settings.allow_overlap:
        for training in (config.data, settings.train):
            if training is not None:
                check_disjoint(settings.test, training)
    test = read_labeled_texts(settings.test).sample(settings.texts, settings.seed)
    sets = _read_training_sets(run, settings)
    scores = _score_students(student(), sets, test, settings)
    return Evaluation(
        run=run.id,
        guarantee_of_the_synthetic_texts=_read_guarantee(run),
        student=StudentSettings(student().name, student().longest, settings.repetitions),
        confidence=_CONFIDENCE,
        scores={name: _estimate_scores(list(map(asdict, repetitions))) for name, repetitions in scores.items()},
        gap_closed=_estimate_gaps(scores) if PRIVATE in scores else None,
        metrics=_measure_metrics(sets, test, settings, embed()),
    )


def _read_guarantee(run: Run) -> Guarantee | None:
    if (statement := run.statement()) is None:
        return None
    stated = statement.guarantee
    return Guarantee(_finite_or_none(stated.epsilon), stated.delta, stated.unit, stated.relation)


def _read_training_sets(run: Run, settings: EvaluationSettings) -> Sets:
    """Read the sets that students learn from."""
    population = run.population(0)
    if population is None:
        raise RunFolderError(
            f"{run.folder} holds no initial population; continue the run with "
            f"`pretext resume {quote_path(run.folder)}`."
        )
    rows = list(synthetic_rows(run.folder))
    sets: Sets = {
        # The labels of the initial population say nothing of its texts: they were dealt out.
        INITIAL: LabeledTexts([candidate.text for candidate in population], [""] * len(population)),
        SYNTHETIC: LabeledTexts([row["text"] for row in rows], [row.get("label", "") for row in rows]),
    }
    if settings.train is not None:
        sets[PRIVATE] = read_labeled_texts(settings.train)
    return {name: texts.sample(_MAX_TRAINING_TEXTS, settings.seed) for name, texts in sets.items()}


def _score_students(
    student: Student, sets: Sets, test: LabeledTexts, settings: EvaluationSettings
) -> dict[SetName, list[Score]]:
    """Score the untrained student once, and `repetitions` students that learned from each set."""
    scores: dict[SetName, list[Score]] = {BEFORE: [student.score(test.texts)]}
    with show_progress("Training students", len(sets) * settings.repetitions) as advance:
        for name, labeled in sets.items():
            cut = min(len(labeled.texts) // 10, _MAX_VALIDATION_TEXTS)
            validation, training = labeled.texts[:cut], labeled.texts[cut:]
            scores[name] = []
            for repetition in range(settings.repetitions):
                seed = settings.seed + repetition
                trained = student.train(training, validation=validation, seed=seed, tokens=settings.tokens)
                scores[name].append(trained.score(test.texts))
                advance(1)
    return scores


def _estimate_gaps(scores: Mapping[SetName, Sequence[Score]]) -> ScoreEstimates:
    """Estimate the gap closed, by each kind of score, from its values per repetition."""
    triples = zip(scores[SYNTHETIC], scores[INITIAL], scores[PRIVATE], strict=True)
    return _estimate_scores(
        [
            {kind: metrics.gap_closed(*(getattr(score, kind) for score in triple)) for kind in SCORE_TITLES}
            for triple in triples
        ]
    )


def _estimate_scores(repetitions: Sequence[Mapping[str, float]]) -> ScoreEstimates:
    """Estimate each kind of score over repetitions; the intervals hold the students' luck alone."""
    estimates = {}
    for kind in SCORE_TITLES:
        values = [scores[kind] for scores in repetitions]
        mean = _finite_or_none(statistics.fmean(values))
        estimates[kind] = Estimate(mean, confidence_interval(values), tuple(map(_finite_or_none, values)))
    return ScoreEstimates(**estimates)


def confidence_interval(values: Sequence[float], confidence: float = _CONFIDENCE) -> tuple[float, float] | None:
    """Return Student's t interval of the mean.

    None for a single value, and where one is undefined, as is the gap closed between equal ends.
    """
    from scipy.stats import t

    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    mean = statistics.fmean(values)
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class _EmbeddedSample:
    """A sample of texts with its embeddings."""

    texts: LabeledTexts = field(repr=False)
    rows: metrics.EmbeddingRows = field(repr=False)


def _measure_metrics(
    sets: Sets, test: LabeledTexts, settings: EvaluationSettings, embed: Embedder
) -> dict[SetName, SetMetrics]:
    """Compare each set with the held-out texts, on samples of one size."""
    size = min(settings.texts, *(len(labeled.texts) for labeled in [*sets.values(), test]))
    samples: dict[SetName, _EmbeddedSample] = {}
    for name, labeled in (sets | {HELD_OUT: test}).items():
        texts = labeled.sample(size, settings.seed)
        samples[name] = _EmbeddedSample(texts, embed(texts.texts, announce=f"Embedding texts ({name})"))
    measured: dict[SetName, SetMetrics] = {}
    for name, sample in samples.items():
        values = _diversity_metrics(sample.texts.texts)
        if name != HELD_OUT:
            values |= _compare_samples(sample, samples[HELD_OUT])
        measured[name] = SetMetrics(**{metric: _finite_or_none(value) for metric, value in values.items()})
    return measured


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
        "duplicate_rate": repetition_share(texts),
    }
