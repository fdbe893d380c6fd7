"""Measure a public set of texts: moments of its embeddings in groups, streamed, and cached by content.

The groups serve the bootstrap: every chunk of texts is dealt out over `GROUPS` groups, and drawing the groups with
replacement shows how far the moments of so many texts can be trusted. Memory and cache do not grow with the number of
texts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretext.errors import UsageError
from pretext.files import open_atomically
from pretext.fred.estimation import Moments
from pretext.progress import show_progress
from pretext.tables import Source, read_texts
from pretext.texts import Reservoir
from pretext.vectors import Embedder
from privacy.moments import Floats, MomentQuery

GROUPS = 32
_CHUNK_TEXTS = 8192
_SAMPLE_ROWS = 2048
_FINE_CHUNKS = 4
_COARSE_PARTS = 2
_SEED = 20230218


@dataclass(frozen=True)
class PublicSet:
    """A public set of texts to prefinetune on, or to take the initial population from."""

    name: str
    source: Source
    column: str = "text"

    def texts(self) -> Iterator[str]:
        """Yield its usable texts. Raises UsageError as `read_texts` does."""
        return read_texts(self.source, self.column)


@dataclass(frozen=True)
class Statistics:
    """Sums over the rows of a public set, in groups.

    Attributes:
        digest: SHA-256 of its texts.
        texts: how many there are; more than were embedded, if a sample was.
        count: shape (GROUPS,), rows in each group.
        total: shape (GROUPS, d), sums of rows.
        square: shape (GROUPS, d, d), sums of their outer products.
        sample: shape (up to 2048, d), rows drawn uniformly.
    """

    digest: str
    texts: int
    count: Floats
    total: Floats
    square: Floats
    sample: NDArray[np.float32]

    @property
    def moments(self) -> Moments:
        """Moments of all rows together, about the origin."""
        rows = self.count.sum()
        return Moments(self.total.sum(axis=0) / rows, self.square.sum(axis=0) / rows)

    def project(self, query: MomentQuery) -> ProjectedSet:
        """Sum the same rows centered and projected as the query does it, but not clipped."""
        total = (self.total - self.count[:, None] * query.center) @ query.basis
        first = query.basis[:, : query.rank]
        sums, offset = self.total @ first, query.center @ first
        crossed = sums[:, :, None] * offset
        square = first.T @ self.square @ first - crossed - np.swapaxes(crossed, 1, 2)
        return ProjectedSet(self.count, total, square + self.count[:, None, None] * np.outer(offset, offset))


@dataclass(frozen=True)
class ProjectedSet:
    """Sums in groups as in `Statistics`, as a query sees them: `total` is (GROUPS, n), `square` (GROUPS, r, r)."""

    count: Floats
    total: Floats
    square: Floats

    @property
    def moments(self) -> Moments:
        """Moments of all rows together."""
        return self._weigh_moments(np.ones_like(self.count))

    def resample_moments(self, draws: int, rng: np.random.Generator) -> Moments:
        """Draw `draws` bootstrap samples of the groups that hold rows, and stack their moments.

        One group fewer is drawn than there are: then the spread is not too small by 1 / groups (Rao and Wu 1988).
        """
        filled = np.flatnonzero(self.count)
        weight = np.zeros((draws, self.count.size))
        weight[:, filled] = rng.multinomial(max(filled.size - 1, 1), np.full(filled.size, 1 / filled.size), size=draws)
        return self._weigh_moments(weight)

    def _weigh_moments(self, weight: Floats) -> Moments:
        """The moments where group g counts `weight[..., g]` times; a stack of them for a stack of weights."""
        rows = (weight @ self.count)[..., None]
        second = np.tensordot(weight, self.square, axes=1) / rows[..., None]
        return Moments(weight @ self.total / rows, second)


def mix_sets(sets: Sequence[ProjectedSet]) -> ProjectedSet:
    """Mix sets in equal parts, whatever their sizes."""
    shares = [1 / projected.count.sum() for projected in sets]
    sums = [
        sum(share * getattr(projected, name) for share, projected in zip(shares, sets, strict=True))
        for name in ("count", "total", "square")
    ]
    return ProjectedSet(*map(np.asarray, sums))


def sum_in_groups(chunks: Iterable[NDArray[np.float32]], digest: str = "", texts: int = 0) -> Statistics:
    """Sum over chunks of rows, each of shape (any, d), holding one chunk at a time."""
    rng = np.random.default_rng(_SEED)
    sums: tuple[Floats, Floats, Floats] | None = None
    sample, keys = np.empty((0, 0), np.float32), np.full(_SAMPLE_ROWS, np.inf)
    for number, chunk in enumerate(chunks):
        if sums is None:
            d = chunk.shape[1]
            sums = np.zeros(GROUPS), np.zeros((GROUPS, d)), np.zeros((GROUPS, d, d))
            sample = np.empty((_SAMPLE_ROWS, d), np.float32)
        _add_chunk(chunk, number, *sums)
        _sample_chunk(sample, keys, chunk, rng)
    assert sums is not None
    return Statistics(digest, texts, *sums, sample[np.isfinite(keys)])


def _sample_chunk(
    sample: NDArray[np.float32], keys: Floats, chunk: NDArray[np.float32], rng: np.random.Generator
) -> None:
    """Keep in `sample`, in place, the rows with the smallest random keys of those sampled so far and the chunk's.

    A place with an infinite key is free.
    """
    chunk_keys = rng.random(len(chunk))
    contenders = np.flatnonzero(chunk_keys < keys.max())
    merged = np.concatenate([keys, chunk_keys[contenders]])
    smallest = np.argpartition(merged, keys.size - 1)[: keys.size]
    entering = smallest[smallest >= keys.size]
    leaving = np.setdiff1d(np.arange(keys.size), smallest)
    sample[leaving], keys[leaving] = chunk[contenders[entering - keys.size]], merged[entering]


def _add_chunk(chunk: NDArray[np.float32], number: int, count: Floats, total: Floats, square: Floats) -> None:
    """Deal a chunk out over the groups, in place: products in 32 bits within a part of it, sums over parts in 64.

    The first chunks go to all groups; later ones, in larger parts that multiply faster, to a few at a time.
    """
    parts = GROUPS if number < _FINE_CHUNKS else _COARSE_PARTS
    for part, rows in enumerate(np.array_split(chunk, parts)):
        group = (number * parts + part) % GROUPS
        if len(rows):
            count[group] += len(rows)
            total[group] += np.ones(len(rows), np.float32) @ rows
            square[group] += rows.T @ rows


def measure_public_set(
    public: PublicSet, embed: Embedder, identity: str, max_texts: int | None, cache: Path
) -> Statistics:
    """Measure a public set, or take its statistics from the cache if this content was embedded before.

    Args:
        public: the set.
        embed: the embedder.
        identity: tells embedders apart in the cache.
        max_texts: size of the uniform sample of texts that is embedded; None embeds all.
        cache: folder of cached statistics; made if it is missing.

    Raises:
        UsageError: the set cannot be read or holds no usable text.
    """
    digest, count, sample = _survey_texts(public, max_texts)
    key = hashlib.sha256(json.dumps([identity, digest, max_texts, GROUPS, _SEED]).encode()).hexdigest()
    path = cache / f"{key}.npz"
    if (statistics := _load_statistics(path)) is not None:
        return statistics
    texts = iter(sample) if sample is not None else public.texts()
    with show_progress(f"Embedding {public.name}", count if sample is None else len(sample)) as advance:
        statistics = sum_in_groups(_embed_in_chunks(texts, embed, advance), digest, count)
    _save_statistics(path, statistics)
    return statistics


def _embed_in_chunks(
    texts: Iterator[str], embed: Embedder, advance: Callable[[int], None]
) -> Iterator[NDArray[np.float32]]:
    while chunk := list(islice(texts, _CHUNK_TEXTS)):
        yield embed(chunk)
        advance(len(chunk))


def _survey_texts(public: PublicSet, max_texts: int | None) -> tuple[str, int, list[str] | None]:
    """Digest and count the texts, and sample at most `max_texts` of them uniformly, in one pass."""
    hasher = hashlib.sha256()
    reservoir = Reservoir[str](max_texts or 0, np.random.default_rng(_SEED).integers)
    for text in public.texts():
        encoded = text.encode(errors="replace")
        hasher.update(len(encoded).to_bytes(8) + encoded)
        reservoir.add(text)
    if not reservoir.seen:
        raise UsageError(
            f"The public set {public.source.location} holds no usable text in column {public.column!r}; a usable "
            "text is a string that is not blank."
        )
    return hasher.hexdigest(), reservoir.seen, None if max_texts is None else reservoir.sample


def _load_statistics(path: Path) -> Statistics | None:
    """The cached statistics, or None if there are none or the file is damaged."""
    errors = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(*errors), path.open("rb") as file, np.load(file) as arrays:
        sums = {name: arrays[name] for name in ("count", "total", "square", "sample")}
        return Statistics(str(arrays["digest"]), int(arrays["texts"]), **sums)
    return None


def _save_statistics(path: Path, statistics: Statistics) -> None:
    """Write the cache atomically; where it cannot be written, do without."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_atomically(path) as file:
            np.savez(file, **vars(statistics))
