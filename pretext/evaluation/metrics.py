"""Metrics of synthetic texts against a reference: distances of embeddings, likeness of texts, and the gap closed.

Embeddings are unit rows, shape (n, d). Most metrics depend on the number of texts, so compare sets of one size. A
metric that is not defined for its input is NaN. A metric whose reference is private text is not covered by the
guarantee.

The metrics need the packages of the extra `quality`; call `check_packages` before you spend time.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pretext.errors import UsageError
from pretext.fred.frechet import frechet
from pretext.fred.public_sets import sum_in_groups
from pretext.report.diversity import fold_words

EmbeddingRows = NDArray[np.float32]

_POINTS_PER_BUCKET = 39  # with fewer faiss complains on standard output
_PACKAGES = {"mauve": "mauve-text", "nltk": "nltk", "sklearn": "scikit-learn"}
_TOLERANCE = 1e-6  # distances of equal rows are not always computed as zero


def check_packages() -> None:
    """Raise UsageError if a package that the metrics need is missing."""
    for module, package in _PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise UsageError(f"The metrics need the package {package}; run `pip install 'pretext[quality]'`.")


def gap_closed(metric: float, zero: float, infinity: float) -> float:
    """Return (metric - zero) / (infinity - zero): 0 is what epsilon 0 gives, 1 what the private texts themselves give.

    It also holds for metrics where less is better. NaN where there is no gap, or an argument is not finite.
    """
    if not all(map(math.isfinite, (metric, zero, infinity))) or infinity == zero:
        return math.nan
    return (metric - zero) / (infinity - zero)


def frechet_distance(synthetic: EmbeddingRows, reference: EmbeddingRows) -> float:
    """Return the squared Frechet distance of the embeddings' Gaussian laws; too large with fewer than a few d rows."""
    if not (len(synthetic) and len(reference)):
        return math.nan
    return max(0.0, float(frechet(sum_in_groups([synthetic]).moments, sum_in_groups([reference]).moments)))


def mauve_score(synthetic: EmbeddingRows, reference: EmbeddingRows, seed: int = 0) -> float:
    """Return MAUVE (Pillutla et al. 2021) of these embeddings, between 0 and 1; 1 for equal laws.

    The package's own recipe with two exceptions: the embeddings are ours, so values do not compare with those of
    GPT-2's, and there is one k-means bucket for every 39 points, at least 2. NaN below 78 points in all.
    """
    points = len(synthetic) + len(reference)
    if not (len(synthetic) and len(reference)) or points < 2 * _POINTS_PER_BUCKET:
        return math.nan
    from mauve import compute_mauve

    p, q = (np.ascontiguousarray(rows, np.float32) for rows in (reference, synthetic))
    return float(compute_mauve(p_features=p, q_features=q, num_buckets=points // _POINTS_PER_BUCKET, seed=seed).mauve)


def precision_recall(synthetic: EmbeddingRows, reference: EmbeddingRows, k: int = 5) -> tuple[float, float]:
    """Return the share of synthetic rows within the reference's manifold, and of reference rows within the synthetic.

    The manifold of a set is the union of the balls around its rows, each as large as the distance to the k-th nearest
    row of the same set (Kynkaanniemi et al. 2019). NaN if a set has no more than k rows.
    """
    return _share_inside(synthetic, reference, k), _share_inside(reference, synthetic, k)


def _share_inside(rows: EmbeddingRows, reference: EmbeddingRows, k: int) -> float:
    from sklearn.metrics import pairwise_distances_chunked
    from sklearn.neighbors import NearestNeighbors

    if not len(rows) or len(reference) <= k:
        return math.nan
    radius = NearestNeighbors(n_neighbors=k).fit(reference).kneighbors()[0][:, -1]
    blocks = pairwise_distances_chunked(
        rows, reference, reduce_func=lambda block, _: (block <= radius + _TOLERANCE).any(1)
    )
    return float(np.concatenate(list(blocks)).mean())


def cluster_coverage(synthetic: EmbeddingRows, reference: EmbeddingRows, clusters: int = 50, seed: int = 0) -> float:
    """Return the share of the reference's k-means clusters that are nearest to a synthetic row; NaN with few rows."""
    from sklearn.cluster import KMeans

    if not len(synthetic) or len(reference) < clusters:
        return math.nan
    kmeans = KMeans(clusters, n_init=1, random_state=seed).fit(np.asarray(reference, np.float64))
    return len(np.unique(kmeans.predict(np.asarray(synthetic, np.float64)))) / len(np.unique(kmeans.labels_))


def classifier_transfer(
    synthetic: EmbeddingRows, labels: Sequence[str], reference: EmbeddingRows, reference_labels: Sequence[str]
) -> float:
    """Return the accuracy on the reference of a logistic regression that learned labels from synthetic rows alone.

    NaN if the synthetic rows have fewer than two labels or there is no reference.
    """
    from sklearn.linear_model import LogisticRegression

    if len(set(labels)) < 2 or not len(reference):
        return math.nan
    model = LogisticRegression(max_iter=2000, C=10.0).fit(synthetic, list(labels))
    return float(np.mean(model.predict(reference) == np.asarray(reference_labels)))


def self_bleu(texts: Sequence[str], sample: int = 200, seed: int = 0) -> float:
    """Return the mean BLEU-4 of a text against all others (Zhu et al. 2018), on a random sample; 1 for equal texts.

    Short texts are smoothed (method 1 of nltk). NaN with fewer than two texts.
    """
    if len(texts) < 2:
        return math.nan
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    rng = np.random.default_rng(seed)
    words = [list(fold_words(texts[row])) for row in rng.permutation(len(texts))[:sample]]
    smooth = SmoothingFunction().method1
    scores = [
        sentence_bleu(words[:row] + words[row + 1 :], own, smoothing_function=smooth) for row, own in enumerate(words)
    ]
    return float(np.mean(scores))
