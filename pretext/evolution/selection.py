"""What follows from released votes: survivors, parents of the next round, and seeds. Post-processing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pretext.config.settings import Evolution
from pretext.errors import NoSignal, RunFolderError
from pretext.formatting import quote_path
from pretext.run.folder import Run
from pretext.run.records import Candidate, Seed, Selection


def select_survivors(
    votes: NDArray[np.float64], sigma: float, evolution: Evolution, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Select survivors, their weights, and `population` parents for the next round.

    weight = max(votes - evolution.threshold * sigma, 0), never NaN. multinomial: parents are drawn with replacement in
    proportion to weight (the paper). rank: only the heaviest `survivors` share of the candidates survive, and take
    equal turns.

    Args:
        votes: shape (n,), released votes.
        sigma: standard deviation of their noise.
        evolution: threshold, method, shares and size.
        rng: draws parents.

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
    weights = weights[survivors]
    if evolution.selection == "multinomial":
        parents = rng.choice(survivors, evolution.population, p=weights / weights.sum())
    else:
        parents = np.resize(survivors, evolution.population)
    return survivors, weights, parents


def select_round(number: int, votes: NDArray[np.float64], sigma: float, evolution: Evolution) -> Selection:
    """Select by a round's release; a function of the arguments alone. Without survivors, all are parents.

    Args:
        number: of the round.
        votes: shape (n,), released votes.
        sigma: standard deviation of their noise.
        evolution: how to select.
    """
    rng = np.random.default_rng([evolution.seed, number, 2])
    survivors, weights, parents = select_survivors(votes, sigma, evolution, rng)
    if survivors.size == 0:
        parents = np.arange(len(votes))
    return Selection(votes.tolist(), sigma, evolution.threshold, survivors.tolist(), weights.tolist(), parents.tolist())


def collect_seeds(run: Run, rounds: Iterable[int], power: float) -> list[Seed]:
    """Collect the survivors of rounds, heaviest first; one that survived several rounds counts where it was heaviest.

    Args:
        run: a folder whose evolution is finished.
        rounds: numbers of the rounds whose survivors are seeds.
        power: a seed is shown in proportion to its weight to this power.

    Raises:
        NoSignal: there are none.
        RunFolderError: a round is missing.
    """
    heaviest: dict[Candidate, Seed] = {}
    for number in rounds:
        selection, population = run.selection(number), run.population(number)
        if selection is None or population is None:
            raise RunFolderError(
                f"{run.folder} holds no selection of round {number}; finish the run with "
                f"`pretext resume {quote_path(run.folder)}`."
            )
        for row, weight in zip(selection.survivors, selection.weights, strict=True):
            candidate = population[row]
            if candidate not in heaviest or heaviest[candidate].weight < weight:
                heaviest[candidate] = Seed(candidate.text, candidate.label, number, selection.noisy[row], weight)
    if not heaviest:
        raise NoSignal(
            "No candidate of any round got more noisy votes than the threshold, so there are no seeds and nothing "
            "was written. The releases are charged all the same. Next time take a larger epsilon, a smaller "
            "population, fewer rounds or a lower evolution.threshold; `pretext plan` shows noise against "
            "expected votes beforehand."
        )
    seeds = [replace(seed, weight=seed.weight**power) for seed in heaviest.values()]
    return sorted(seeds, key=lambda seed: (-seed.weight, seed.text))
