"""Selection."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pretext.config.settings import Config, Evolution
from pretext.errors import NoSignal, RunFolderError
from pretext.run.folder import Run
from pretext.run.records import Candidate, Seed, Selection


@dataclass(frozen=True)
class NoisyHistogram:
    """A released histogram: `votes`, shape (n,), and the standard deviation of its noise, both in votes."""

    votes: NDArray[np.float64]
    sigma: float


def select_survivors(
    votes: NDArray[np.float64], sigma: float, evolution: Evolution, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Survivors, their weights, and `population` parents for the next round.

    weight = max(noisy - evolution.threshold * sigma, 0), never NaN. multinomial: parents drawn with replacement in
    proportion to weight (the paper). rank: only the heaviest `survivors` share of the candidates survive, and take
    equal turns.

    Args:
        votes: shape (n,), released votes.
        sigma: standard deviation of their noise.

    Returns:
        survivors (row numbers, heaviest first), their weights, parents (row numbers); all empty without any survivor.
    """
    weights = np.maximum(votes - evolution.threshold * sigma, 0.0)
    order = np.argsort(-weights, kind="stable")
    survivors = order[: int(np.count_nonzero(weights))]
    if evolution.selection == "rank":
        survivors = survivors[: max(1, math.ceil(evolution.survivors * len(votes)))]
    if survivors.size == 0:
        return survivors, weights[survivors], survivors
    kept = weights[survivors]
    if evolution.selection == "multinomial":
        parents = rng.choice(survivors, evolution.population, p=kept / kept.sum())
    else:
        parents = np.resize(survivors, evolution.population)
    return survivors, kept, parents


def select_round(config: Config, round_number: int, noisy: NoisyHistogram) -> Selection:
    """What follows from a round's release; a function of the arguments alone. Without survivors all are parents."""
    rng = np.random.default_rng([config.evolution.seed, round_number, 2])
    survivors, weights, parents = select_survivors(noisy.votes, noisy.sigma, config.evolution, rng)
    if survivors.size == 0:
        parents = np.arange(len(noisy.votes))
    return Selection(
        noisy.votes.tolist(),
        noisy.sigma,
        config.evolution.threshold,
        survivors.tolist(),
        weights.tolist(),
        parents.tolist(),
    )


def save_seeds_of_run(config: Config, run: Run) -> list[Seed]:
    """The seeds of a finished evolution, saved for people too. Raises what `collect_seeds` does."""
    return run.save_seeds(collect_seeds(config, run), config.data.labels)


def collect_seeds(config: Config, run: Run) -> list[Seed]:
    """The survivors of the seed rounds of a finished evolution; one that survived several rounds keeps its heaviest.

    Raises:
        NoSignal: there are none.
        RunFolderError: a seed round is missing.
    """
    best: dict[Candidate, Seed] = {}
    for round_number in config.seed_rounds:
        selected, population = run.selection(round_number), run.population(round_number)
        if selected is None or population is None:
            raise RunFolderError(
                f"{run.folder} holds no selection of round {round_number}; finish the run with `pretext resume "
                f"{run.folder}`."
            )
        for row, weight in zip(selected.survivors, selected.weights, strict=True):
            candidate = population[row]
            if candidate not in best or best[candidate].weight < weight:
                best[candidate] = Seed(candidate.text, candidate.label, round_number, selected.noisy[row], weight)
    if not best:
        raise NoSignal(
            "No candidate of any round got more noisy votes than the threshold, so there are no seeds and nothing "
            "was written. The releases are charged all the same. Next time take a larger epsilon, a smaller "
            "population, fewer rounds or a lower evolution.threshold; `pretext plan` shows noise against "
            "expected votes beforehand."
        )
    power = config.evolution.seed_power
    weighted = [replace(seed, weight=seed.weight**power) for seed in best.values()]
    return sorted(weighted, key=lambda seed: (-seed.weight, seed.text))
