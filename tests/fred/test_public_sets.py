"""Statistics of public sets: sums that are right whatever the chunks, and a cache by content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pretext.fred.public_sets
from pretext.errors import UsageError
from pretext.fred.public_sets import PublicSet, Statistics, measure_public_set, mix_sets, sum_in_groups
from pretext.tables import Source
from privacy.moments import MomentQuery
from tests.support.runs import HashEmbedder, write_rows


class CountingEmbedder(HashEmbedder):
    """Count the texts it embeds."""

    def __init__(self) -> None:
        self.embedded = 0

    def __call__(self, texts: Sequence[str], *, announce: str | None = None) -> NDArray[np.float32]:
        self.embedded += len(texts)
        return super().__call__(texts, announce=announce)


def measure(path: Path, embed: HashEmbedder, cache: Path, most: int | None = None) -> Statistics:
    return measure_public_set(PublicSet(path.stem, Source(str(path))), embed, "hash", most, cache)


def make_query(d: int, rank: int) -> MomentQuery:
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    return MomentQuery(np.full(d, 0.1), basis[:, :5], rank, 1.0, 1.0, 0.6, 0.0)


@pytest.mark.parametrize("sizes", [[1], [5, 1], [400], [100, 300, 7]])
def test_running_moments_are_those_of_all_rows(sizes: list[int]) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((sum(sizes), 8)).astype(np.float32)
    statistics = sum_in_groups(np.split(rows, np.cumsum(sizes)[:-1]))
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(statistics.moments.mean, exact.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(statistics.moments.second, exact.T @ exact / len(rows), atol=1e-5)
    assert statistics.count.sum() == len(rows)


@pytest.mark.parametrize("rank", [0, 3, 5])
def test_projected_sums_are_those_of_projected_rows(rank: int) -> None:
    rows = np.random.default_rng(2).standard_normal((50, 8)).astype(np.float32)
    query = make_query(8, rank)
    sums, projected = sum_in_groups([rows]).project(query), (rows - query.center) @ query.basis
    np.testing.assert_allclose(sums.moments.mean, projected.mean(axis=0), atol=1e-5)
    first = projected[:, :rank]
    np.testing.assert_allclose(sums.moments.second, first.T @ first / 50, atol=1e-5)


def test_resampled_groups_vary_like_resampled_rows() -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((6400, 5)).astype(np.float32)
    query = MomentQuery(np.zeros(5), np.eye(5), 2, 1.0, 1.0, 0.6, 0.0)
    resampled = sum_in_groups([rows]).project(query).resample_moments(4000, rng)
    # 32 groups: the spread of a bootstrap's spread is about 1 / sqrt(2 x 31), 13 %, for each of 5 means.
    assert resampled.mean.std(axis=0).mean() == pytest.approx(1 / np.sqrt(6400), rel=0.3)
    single_row = sum_in_groups([rows[:1]]).project(query).resample_moments(3, rng)
    assert (single_row.mean == single_row.mean[0]).all()


def test_a_mixture_has_equal_parts_whatever_the_sizes() -> None:
    rng = np.random.default_rng(4)
    few, many = rng.standard_normal((50, 5)).astype(np.float32), rng.standard_normal((700, 5)).astype(np.float32) + 3
    query = MomentQuery(np.zeros(5), np.eye(5), 2, 1.0, 1.0, 0.6, 0.0)
    sets = [sum_in_groups([rows]).project(query) for rows in (few, many)]
    mixture = mix_sets(sets).moments
    np.testing.assert_allclose(mixture.mean, (few.mean(axis=0) + many.mean(axis=0)) / 2, atol=1e-5)
    np.testing.assert_allclose(mixture.second, (sets[0].moments.second + sets[1].moments.second) / 2, atol=1e-9)


def test_the_sample_is_uniform_and_of_fixed_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretext.fred.public_sets, "_SAMPLE_ROWS", 1000)
    rows = np.arange(10_000, dtype=np.float32)[:, None]
    sample = sum_in_groups(np.split(rows, 10)).sample[:, 0]
    assert len(set(sample)) == 1000
    # Mean of 1000 of 0..9999 without replacement: standard deviation 87; 5 of them is a chance below 1e-6.
    assert abs(sample.mean() - 4999.5) < 435


def test_the_cache_is_by_content(tmp_path: Path) -> None:
    rows = [{"text": f"text number {i} of soup"} for i in range(60)]
    whole, shorter = write_rows(tmp_path / "whole.jsonl", rows), write_rows(tmp_path / "shorter.jsonl", rows[1:])
    embed = CountingEmbedder()
    statistics = measure(whole, embed, tmp_path / "cache")
    cached = measure(write_rows(tmp_path / "renamed.jsonl", rows), embed, tmp_path / "cache")
    assert embed.embedded == 60
    assert statistics.digest == cached.digest
    np.testing.assert_array_equal(statistics.square, cached.square)
    assert measure(shorter, embed, tmp_path / "cache").digest != statistics.digest
    assert embed.embedded == 119


def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "set.jsonl", [{"text": f"soup {i}"} for i in range(40)])
    embed = CountingEmbedder()
    measure(path, embed, tmp_path / "cache")
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    measure(path, embed, tmp_path / "cache")
    assert embed.embedded == 80


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    path = write_rows(tmp_path / "set.jsonl", [{"text": "soup"}])
    assert measure(path, HashEmbedder(), tmp_path / "cache").texts == 1


def test_a_sample_of_texts_is_embedded(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "set.jsonl", [{"text": f"soup {i}"} for i in range(100)])
    embed = CountingEmbedder()
    statistics = measure(path, embed, tmp_path / "cache", 30)
    assert (statistics.texts, statistics.count.sum(), embed.embedded) == (100, 30, 30)


def test_texts_are_embedded_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rows(tmp_path / "set.jsonl", [{"text": f"soup {i} flower"} for i in range(100)])
    whole = measure(path, HashEmbedder(), tmp_path / "cache")
    monkeypatch.setattr(pretext.fred.public_sets, "_CHUNK_TEXTS", 7)
    in_chunks = measure(path, HashEmbedder(), tmp_path / "other cache")
    np.testing.assert_allclose(whole.moments.second, in_chunks.moments.second, atol=1e-6)


def test_a_set_without_usable_texts_is_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "blank.jsonl", [{"text": "  "}, {"text": None}])
    with pytest.raises(UsageError, match="column 'text'"):
        measure(path, HashEmbedder(), tmp_path / "cache")
