"""Simulate evolutions without a language model: which settings come nearest to the private texts at the same epsilon?
Hundreds of evolutions take minutes.

    python scripts/studies/simulate_evolution.py --private a.jsonl.gz b.jsonl.gz --public c.jsonl.gz d.jsonl.gz
        --cache FOLDER [--epsilons 0.5 1.29 7.58] [--repetitions 2] [--only default ...]

For each private set there is a pool of texts: the public ones, the other private sets, and 1,500 texts of clients of
its own who do not vote. The population begins with public texts; a variation of a text is one of its 24 nearest
neighbors in the pool, or, in three of ten, a neighbor of that. Votes, clipping, calibration and selection are the
program's; the noise is drawn by numpy, as nothing is released. At the end 2,000 neighbors of seeds stand for the
expansion.

Printed are, for every private set, three figures, each 0 for a sample of the public texts and 1 for one of the set's
own clients: the Frechet distance from clients who neither voted nor are in the pool; the share of texts from the own
clients (precision, not scaled); and the mean similarity of those clients' texts to the nearest text of the expansion
(coverage). At the end of a line stands the mean over the sets. Embeddings are cached in FOLDER, as by
scripts/studies/fred_ranking.py.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fred_ranking import EmbeddedTexts, Rows, embed_file, subset_texts
from numpy.typing import NDArray

from pretext.clients.nearest import find_nearest
from pretext.clients.voting import Ballot, Clients, VoteRule
from pretext.config.resolve import resolve
from pretext.config.settings import Config
from pretext.evolution.selection import select_survivors
from pretext.fred.estimation import Moments
from pretext.fred.frechet import frechet
from pretext.jobs.plan import make_plan

NEIGHBORS, OWN, OTHERS, EXPANDED, TESTED = 24, 1500, 3000, 2000, 1500
BEFORE = [
    "privacy.rounds=5", "privacy.normalize_votes=false", "evolution.selection=rank", "evolution.threshold=2",
    "evolution.seeds_from_round=1", "evolution.seed_power=1",
]  # fmt: skip
SETTINGS: dict[str, list[str]] = {
    "default": [],
    "rank, threshold 2, five rounds": BEFORE,
    "the paper's (icml2024)": [
        "privacy.rounds=11", "privacy.vote_norm=8", "privacy.normalize_votes=false", "evolution.population=1024",
        "evolution.threshold=1", "evolution.kept_parents=0", "evolution.seeds_from_round=0", "evolution.seed_power=1",
    ],
    "5 rounds": ["privacy.rounds=5"],
    "12 rounds": ["privacy.rounds=12"],
    "population 256": ["evolution.population=256"],
    "population 1024": ["evolution.population=1024"],
    "votes not normalized": ["privacy.normalize_votes=false"],
    "4 texts a client": ["privacy.max_texts_per_client=4"],
    "1 text a client": ["privacy.max_texts_per_client=1"],
    "vote split among 4": ["evolution.nearest=4"],
    "threshold 0": ["evolution.threshold=0"],
    "threshold 1": ["evolution.threshold=1"],
    "threshold 2": ["evolution.threshold=2"],
    "rank": ["evolution.selection=rank"],
    "no parent kept": ["evolution.kept_parents=0"],
    "seeds of all rounds": ["evolution.seeds_from_round=0"],
    "seeds of the last round": ["evolution.seeds_from_round=7"],
    "seeds by votes": ["evolution.seed_power=1"],
    "seeds alike": ["evolution.seed_power=0"],
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """A private set in its surroundings.

    Attributes:
        pool: shape (n, d), what a generator could write.
        near: shape (n, NEIGHBORS), each text's nearest others.
        start: rows of the pool that are public.
        own: rows of the pool that are of the private set's kind.
        voters: the clients who vote.
        test_rows: shape (m, d), texts of clients who neither voted nor are in the pool.
    """

    pool: Rows
    near: NDArray[np.int64]
    start: NDArray[np.int64]
    own: NDArray[np.int64]
    voters: EmbeddedTexts
    test_rows: Rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--private", type=Path, nargs="+", required=True)
    parser.add_argument("--public", type=Path, nargs="+", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.5, 1.29, 7.58])
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), metavar="SETTING")
    options = parser.parse_args()
    private = [embed_file(path, options.cache) for path in options.private]
    public = [embed_file(path, options.cache).rows for path in options.public]
    worlds = [make_world(i, private, public) for i in range(len(private))]
    print(
        "distance, precision, coverage of " + ", ".join(path.name.split(".")[0] for path in options.private) + "; mean"
    )
    for epsilon in options.epsilons:
        for name in options.only:
            config = resolve(overrides=[
                f"privacy.epsilon={epsilon}", "privacy.delta=3e-6", "initial.prompts=['-']", *SETTINGS[name],
            ])  # fmt: skip
            figures = np.array([measure_settings(world, config, options.repetitions) for world in worlds])
            row = [f"{distance:5.2f} {own:4.2f} {cover:4.2f}" for distance, own, cover in [*figures, figures.mean(0)]]
            print(f"{epsilon:<5} {name:<32}" + " | ".join(row), flush=True)


def make_world(number: int, private: list[EmbeddedTexts], public: list[Rows]) -> World:
    """Return the surroundings of a private set; its clients are dealt out 70, 15 and 15 %."""
    rng = np.random.default_rng(0)
    mine = private[number]
    part = rng.choice(3, size=mine.client.max() + 1, p=[0.7, 0.15, 0.15])[mine.client]
    others = [texts.rows for i, texts in enumerate(private) if i != number]
    parts = [rows[rng.permutation(len(rows))[:OTHERS]] for rows in [*public, *others]]
    own = mine.rows[part == 1]
    pool = np.concatenate([*parts, own[rng.permutation(len(own))[:OWN]]])
    size, begin = sum(map(len, parts)), sum(len(rows) for rows in parts[: len(public)])
    return World(
        pool,
        find_nearest(pool, pool, NEIGHBORS + 1)[:, 1:],
        np.arange(begin),
        np.arange(size, len(pool)),
        subset_texts(mine, part == 0),
        mine.rows[part == 2],
    )


def measure_settings(world: World, config: Config, repetitions: int) -> NDArray[np.float64]:
    """Return distance, precision and coverage, means over repetitions."""
    rng = np.random.default_rng(1)
    worst = scores(world, rng.choice(world.start, EXPANDED))
    best = scores(world, rng.choice(world.own, EXPANDED))
    mean = np.mean([scores(world, simulate_run(world, config, seed)) for seed in range(repetitions)], axis=0)
    scaled = (mean - worst) / (best - worst)
    return np.array([scaled[0], mean[1], scaled[2]])


def simulate_run(world: World, config: Config, seed: int) -> NDArray[np.int64]:
    """Return the rows of the pool that stand for the expansion after an evolution."""
    rng = np.random.default_rng(seed)
    evolution, rounds = config.evolution, config.privacy.rounds
    clients = sample_clients(world.voters, config.privacy.max_texts_per_client, rng)
    rule = VoteRule(evolution.nearest, config.privacy.norm_squared, config.privacy.normalize_votes)
    sigma = make_plan(config).sigma
    population = rng.choice(world.start, evolution.population, replace=False)
    seeds: dict[int, float] = {}
    for number in range(rounds):
        bounded = clients.vote(Ballot(world.pool[population], np.zeros(len(population), np.int64)), rule)
        noisy = bounded.value * bounded.grid + sigma * rng.standard_normal(len(population))
        survivors, weights, parents = select_survivors(noisy, sigma, evolution, rng)
        if number in config.seed_rounds:
            for row, weight in zip(population[survivors].tolist(), weights.tolist(), strict=True):
                seeds[row] = max(seeds.get(row, 0.0), weight)
        kept_parents = population[survivors[: int(evolution.kept_parents * evolution.population)]]
        parent_rows = population[parents if parents.size else np.arange(len(population))]
        population = np.unique(
            [*kept_parents, *vary_rows(world, parent_rows[: evolution.population - len(kept_parents)], rng)]
        )
    if not seeds:
        return np.asarray(rng.choice(world.start, EXPANDED))
    weight = np.array(list(seeds.values())) ** evolution.seed_power
    drawn = rng.choice(list(seeds), EXPANDED, p=weight / weight.sum())
    return np.asarray(world.near[drawn, rng.integers(0, 8, EXPANDED)])


def sample_clients(texts: EmbeddedTexts, limit: int, rng: np.random.Generator) -> Clients:
    """Draw at most `limit` texts of each client at random."""
    order = rng.permutation(len(texts.client))
    _, inverse = np.unique(texts.client[order], return_inverse=True)
    grouped, count = np.argsort(inverse, kind="stable"), np.bincount(inverse)
    place = np.empty(len(order), np.int64)
    place[grouped] = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    sample = order[place < limit]
    return Clients(texts.rows[sample], texts.client[sample], np.zeros(len(sample), np.int64))


def vary_rows(world: World, parents: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a neighbor of each parent, or a neighbor of that."""
    neighbors = world.near[parents, rng.integers(0, NEIGHBORS, len(parents))]
    further = rng.random(len(parents)) < 0.3
    neighbors[further] = world.near[neighbors[further], rng.integers(0, NEIGHBORS, further.sum())]
    return neighbors


def scores(world: World, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return Frechet distance, share of own texts, and coverage of an expansion; not scaled."""
    texts, tested = np.ascontiguousarray(world.pool[rows]), world.test_rows[:TESTED]
    reached = texts[find_nearest(texts, tested, 1)[:, 0]]
    distance = float(frechet(moments(world.test_rows), moments(texts)))
    return np.array([distance, np.isin(rows, world.own).mean(), (reached * tested).sum(axis=1).mean()])


def moments(rows: Rows) -> Moments:
    """Return the first and second moments of rows."""
    exact = rows.astype(np.float64)
    return Moments(exact.mean(axis=0), exact.T @ exact / len(exact))


if __name__ == "__main__":
    main()
