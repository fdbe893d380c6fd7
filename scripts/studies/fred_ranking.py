"""Test whether the private ranking of public sets agrees with the one without noise.

    python scripts/studies/fred_ranking.py --private a.jsonl.gz b.jsonl.gz --public c.jsonl.gz d.jsonl.gz --cache FOLDER
        [--repetitions 20] [--epsilons 0.1 0.3 1 3]

Each private set (columns client_id and text) is ranked against the public sets, the other private sets, and mixtures
that hold 10, 30, 60 and 90 % texts of its own domain (of held-out clients) and the first public set's otherwise. The
truth is the Frechet distance in all dimensions, without noise. The script prints for each set and epsilon, as means
over repetitions, the Spearman correlation with the truth and how often the truly nearest set comes first, for FreD and
for three others:

  mean          the distance of the means, from FreD's own release
  plain         moments of the clients' mean vectors, 16 directions, equal weights, clipped to norm 1, nothing removed
  histogram     texts counted in 64 cells around public centers (k-means); Hellinger distance of the noisy shares

All at the same epsilon, delta 1e-6, add/remove, exact noise, number of clients public. The last column: how often
FreD's 90 % interval holds the noiseless distance in its own directions. Embeddings are cached in FOLDER.
"""

from __future__ import annotations

import argparse
import gzip
import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from pretext.fred.design import design_query, principal_axes
from pretext.fred.estimation import Moments, estimate_moments
from pretext.fred.frechet import frechet
from pretext.fred.public_sets import Statistics, sum_in_groups
from pretext.fred.ranking import estimate_distances
from privacy import Bounded, DiscreteGaussian, Relation, bounded_sum, calibrate
from privacy.moments import MomentQuery, bounded_moments, moments_cost, moments_mechanism

Rows = NDArray[np.float32]
DELTA = 1e-6
SHARES = (0.1, 0.3, 0.6, 0.9)
CANDIDATE_TEXTS = 2000
HELD_OUT = 0.1
CELLS = 64


@dataclass(frozen=True)
class EmbeddedTexts:
    """Embeddings, shape (m, d), and whose they are."""

    rows: Rows
    client: NDArray[np.int64]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--private", type=Path, nargs="+", required=True)
    parser.add_argument("--public", type=Path, nargs="+", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.1, 0.3, 1.0, 3.0])
    parser.add_argument("--only", help="rank this private set alone")
    options = parser.parse_args()
    sets = {path.name.split(".")[0]: embed_file(path, options.cache) for path in [*options.private, *options.public]}
    publics = [path.name.split(".")[0] for path in options.public]
    print(f"{'private set':<16} {'clients':>7} {'epsilon':>7} {'r':>4} {'chance':>6}   Spearman / first right of")
    print(f"{'':<45} {'FreD':>13} {'mean':>13} {'plain':>13} {'histogram':>13} {'90 % covered':>13}", flush=True)
    for path in options.private:
        name = path.name.split(".")[0]
        if options.only in (None, name):
            rank_private_set(name, sets, publics, options.epsilons, options.repetitions)


def embed_file(path: Path, cache: Path) -> EmbeddedTexts:
    """Embed a file, at most 8 texts a client and 20,000 in all, or read its embeddings from the cache."""
    rows, listed = cache / f"{path.name.split('.')[0]}.npy", cache / f"{path.name.split('.')[0]}.json"
    if not rows.exists():
        from pretext.models.embedder import SentenceEmbedder

        with gzip.open(path, "rt", encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        np.random.default_rng(0).shuffle(records)
        count: dict[str, int] = {}
        selection: list[list[str]] = []
        for record in records:
            count[record["client_id"]] = count.get(record["client_id"], 0) + 1
            if count[record["client_id"]] <= 8 and len(selection) < 20_000:
                selection.append([record["client_id"], record["text"]])
        cache.mkdir(parents=True, exist_ok=True)
        listed.write_text(json.dumps(selection))
        np.save(rows, SentenceEmbedder("embedded", 64, 64)([text for _, text in selection], announce=str(path)))
    clients = [client for client, _ in json.loads(listed.read_text())]
    return EmbeddedTexts(np.load(rows), np.unique(clients, return_inverse=True)[1].astype(np.int64))


def rank_private_set(
    name: str, sets: dict[str, EmbeddedTexts], publics: list[str], epsilons: list[float], repetitions: int
) -> None:
    """Print the lines of a private set."""
    rng = np.random.default_rng(0)
    private, own = split_held_out(sets[name], rng)
    candidates = [sample_rows(sets[candidate].rows, CANDIDATE_TEXTS, rng) for candidate in sets if candidate != name]
    base = sets[publics[0]].rows
    for share in SHARES:
        count = round(share * CANDIDATE_TEXTS)
        mixed = [sample_rows(own.rows, count, rng, True), sample_rows(base, CANDIDATE_TEXTS - count, rng)]
        candidates.append(rng.permutation(np.concatenate(mixed)))
    known = [sum_in_groups([rows]) for rows in candidates]
    truth = np.array([float(frechet(client_law(private), candidate.moments)) for candidate in known])
    clients = np.unique(private.client).size
    for epsilon in epsilons:
        measure_setting(name, private, clients, candidates, known, truth, epsilon, repetitions)


def split_held_out(texts: EmbeddedTexts, rng: np.random.Generator) -> tuple[EmbeddedTexts, EmbeddedTexts]:
    """Return the texts of the private clients and of the held-out ones."""
    out = rng.random(texts.client.max() + 1)[texts.client] < HELD_OUT
    return subset_texts(texts, ~out), subset_texts(texts, out)


def subset_texts(texts: EmbeddedTexts, mask: NDArray[np.bool_]) -> EmbeddedTexts:
    """Return some of the texts, with clients 0, 1, ..."""
    return EmbeddedTexts(texts.rows[mask], np.unique(texts.client[mask], return_inverse=True)[1].astype(np.int64))


def sample_rows(rows: Rows, count: int, rng: np.random.Generator, again: bool = False) -> Rows:
    """Draw rows at random; with `again`, with replacement where there are too few."""
    return rows[rng.choice(len(rows), count, replace=again and count > len(rows))]


def client_law(texts: EmbeddedTexts) -> Moments:
    """Return the moments of a random text of a random client, without noise."""
    weight = (1 / np.bincount(texts.client))[texts.client]
    weight /= weight.sum()
    rows = texts.rows.astype(np.float64)
    return Moments(weight @ rows, rows.T @ (rows * weight[:, None]))


def measure_setting(
    name: str,
    private: EmbeddedTexts,
    clients: int,
    candidates: list[Rows],
    known: list[Statistics],
    truth: NDArray[np.float64],
    epsilon: float,
    repetitions: int,
) -> None:
    """Print one line."""
    multiplier = multiplier_for(epsilon)
    noise = moments_mechanism(multiplier, Relation.ADD_REMOVE)
    design = design_query(known, noise.standard_deviation, clients, count_clients=False)
    bounded = bounded_moments(design.query, private.rows, private.client)
    laws = [candidate.project(design.query) for candidate in known]
    exact, _ = estimate_moments(design.query, bounded.value * np.float64(bounded.grid), 1e-12, clients)
    reduced = np.array([float(frechet(exact, seen.moments)) for seen in laws])
    plain = PlainBaseline(private, known, clients, noise)
    counts = Histogram(private, candidates, multiplier)
    answers: dict[str, list[NDArray[np.float64]]] = {"FreD": [], "mean": [], "plain": [], "histogram": []}
    covered = []
    for _ in range(repetitions):
        released = noisy_sum(noise, bounded)
        moments, law = estimate_moments(design.query, released, noise.standard_deviation, clients)
        estimate = estimate_distances(moments, law, laws)
        low, high = estimate.interval(0.9).T
        covered.append(np.mean((low <= reduced) & (reduced <= high)))
        answers["FreD"].append(estimate.distance)
        answers["mean"].append(np.array([np.square(moments.mean - seen.moments.mean).sum() for seen in laws]))
        answers["plain"].append(plain.distances())
        answers["histogram"].append(counts.distances())
    cells = " ".join(f"{agreement(truth, distances):>13}" for distances in answers.values())
    print(
        f"{name:<16} {clients:>7} {epsilon:>7} {design.query.rank:>4} {design.promise.chance:>6.3f}   {cells} "
        f"{np.mean(covered):>11.2f}",
        flush=True,
    )


def multiplier_for(epsilon: float) -> float:
    """Return the noise multiplier of a release that costs epsilon."""
    relation = Relation.ADD_REMOVE
    return calibrate(epsilon, DELTA, lambda tried: moments_cost(2**15, moments_mechanism(tried, relation), relation))


def noisy_sum(noise: DiscreteGaussian, bounded: Bounded) -> NDArray[np.float64]:
    """Draw a fresh release, in the query's own unit."""
    return noise.draw(bounded) * np.float64(noise.grid)


def agreement(truth: NDArray[np.float64], answers: list[NDArray[np.float64]]) -> str:
    """Format Spearman correlation and share of first places, means over repetitions."""
    correlation = np.mean([spearmanr(truth, distances).statistic for distances in answers])
    return f"{correlation:.3f} / {np.mean([distances.argmin() == truth.argmin() for distances in answers]):.2f}"


class PlainBaseline:
    """The obvious recipe: one mean vector a client, its moments in 16 directions, equal weights, norm 1."""

    def __init__(self, private: EmbeddedTexts, known: list[Statistics], clients: int, noise: DiscreteGaussian) -> None:
        center, _, vectors = principal_axes(known)
        self.query = MomentQuery(center, vectors[:, :16], 16, 1.0, 1.0, 0.5**0.5, 0.0)
        means = np.zeros((clients, private.rows.shape[1]))
        np.add.at(means, private.client, private.rows)
        means /= np.bincount(private.client)[:, None]
        self.bounded = bounded_moments(self.query, means, np.arange(len(means)))
        self.laws = [candidate.project(self.query).moments for candidate in known]
        self.clients, self.noise = clients, noise

    def distances(self) -> NDArray[np.float64]:
        """Return the distances from a fresh release."""
        released = noisy_sum(self.noise, self.bounded)
        moments, _ = estimate_moments(self.query, released, self.noise.standard_deviation, self.clients)
        return np.array([float(frechet(moments, law)) for law in self.laws])


class Histogram:
    """Shares of texts in cells around public centers, for a distance in the manner of precision and recall."""

    def __init__(self, private: EmbeddedTexts, candidates: list[Rows], multiplier: float) -> None:
        rng = np.random.default_rng(0)
        rows = np.concatenate([candidate[:500] for candidate in candidates])
        self.centers = rows[rng.choice(len(rows), CELLS, replace=False)]
        for _ in range(10):
            cell = self.cells(rows)
            self.centers = np.stack(
                [rows[cell == i].mean(axis=0) if (cell == i).any() else self.centers[i] for i in range(CELLS)]
            )
        weight = (1 / np.bincount(private.client))[private.client]
        self.bounded = bounded_sum(
            private.client, self.cells(private.rows), weight, dimension=CELLS, norm_squared=Fraction(1)
        )
        self.noise = DiscreteGaussian.for_sum(multiplier, Fraction(1), Relation.ADD_REMOVE)
        self.shares = [np.bincount(self.cells(candidate), minlength=CELLS) / len(candidate) for candidate in candidates]

    def cells(self, rows: Rows) -> NDArray[np.int64]:
        """Return the nearest center of each row."""
        return np.asarray(np.argmax(rows @ self.centers.T - 0.5 * np.square(self.centers).sum(axis=1), axis=1))

    def distances(self) -> NDArray[np.float64]:
        """Return the distances from a fresh release; negative counts are none."""
        released = np.maximum(noisy_sum(self.noise, self.bounded), 0.0)
        share = released / max(released.sum(), 1e-9)
        return np.array([1 - np.sqrt(share * public).sum() for public in self.shares])


if __name__ == "__main__":
    main()
