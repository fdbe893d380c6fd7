"""Make a profile's question from the pool: which features to count, which clusters to vote for. Public."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from pretext.profile.query import ProfileQuery
from pretext.profile.vocabulary import build_vocabulary, public_clip
from pretext.vectors import normalize_rows

_TEXTS_PER_CLUSTER = 8  # fewer, and a cluster is one text's whim
_KMEANS_BATCH = 4096


def make_query(
    texts: Sequence[str],
    embeddings: NDArray[np.float32],
    general_words: Sequence[str],
    *,
    features: int,
    clusters: int,
    labels: int,
    texts_per_client: int,
    share: float,
    seed: int,
) -> ProfileQuery:
    """Make the question of a round.

    Args:
        texts: the pool.
        embeddings: shape (len(texts), d), unit rows, theirs.
        general_words: public words in order of frequency, so that what the pool lacks can be asked for too.
        features: most features.
        clusters: most clusters.
        labels: number of labels, 1 without.
        texts_per_client: most texts of a client.
        share: of a client's squared norm for the features.
        seed: of the clustering.

    Raises:
        UsageError: the pool is too small for a vocabulary.
    """
    vocabulary = build_vocabulary(texts, general_words, features)
    count = max(2, min(clusters, len(texts) // _TEXTS_PER_CLUSTER))
    clustering = MiniBatchKMeans(count, random_state=seed, n_init=1, batch_size=_KMEANS_BATCH).fit(embeddings)
    clip = public_clip(vocabulary, texts, texts_per_client)
    return ProfileQuery.weigh(
        vocabulary,
        normalize_rows(clustering.cluster_centers_.astype(np.float32)),
        labels,
        clip,
        texts_per_client,
        share,
    )
