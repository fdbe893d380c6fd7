"""The loop: propose, vote, release, select, vary. PrE-Text (Hou et al., ICML 2024), algorithm 2."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretext.clients.voting import Ballot
from pretext.config.settings import Config
from pretext.evolution.selection import NoisyHistogram, save_seeds_of_run, select_round
from pretext.evolution.variation import Variation
from pretext.run.folder import Run
from pretext.run.records import Candidate, Origin, Seed, Selection
from pretext.screening.screen import Screen
from pretext.vectors import Embedder, normalize_rows

_log = logging.getLogger("pretext")


@dataclass(frozen=True)
class Steps:
    """What the loop is made of. `ask` is the only one that touches private data, and it returns a release.

    Attributes:
        initial: screen -> the first population; what it drops the screen counts.
        ask: (round, population, () -> ballot) -> the released votes; a replayed release needs no ballot.
        vary: () -> the variation; opened when first needed.
        embed: () -> the embedder; likewise.
    """

    initial: Callable[[Screen], list[Candidate]]
    ask: Callable[[int, list[Candidate], Callable[[], Ballot]], NoisyHistogram]
    vary: Callable[[], Variation]
    embed: Callable[[], Embedder]


def evolve(config: Config, run: Run, steps: Steps) -> list[Seed]:
    """Run all rounds and return the seeds. What the run folder already holds is not done again.

    Raises:
        NoSignal: no candidate of any seed round passed the threshold.
        BudgetExceeded: the ledger refused a round.
    """
    population = run.population(0) or _make_first_population(config, run, steps)
    for round_number in range(config.privacy.rounds):
        # 1. Public: where each candidate stands.
        def ballot(now: int = round_number, candidates: list[Candidate] = population) -> Ballot:
            return _make_ballot(config, run, now, candidates, steps)

        # 2. and 3. Private, then released: votes are bounded, summed, noised and charged at once.
        noisy = steps.ask(round_number, population, ballot)
        # 4. Post-processing from here on.
        selected = run.selection(round_number) or run.save_selection(
            round_number, _select_and_log(config, round_number, population, noisy)
        )
        if round_number + 1 < config.privacy.rounds:
            following = run.population(round_number + 1)
            population = following or _make_next_population(
                config, run, round_number, population, selected, steps.vary()
            )
    return save_seeds_of_run(config, run)


def candidate_points(
    config: Config, round_number: int, population: Sequence[Candidate], steps: Steps
) -> NDArray[np.float32]:
    """Where each candidate stands, shape (n, d): the re-normalized mean of the unit embeddings of its variations.

    With lookahead 0, or where every variation of a candidate failed, the embedding of its own text.
    """
    embed = steps.embed()
    own = embed([candidate.text for candidate in population])
    if config.evolution.lookahead == 0:
        return own
    total = np.zeros_like(own)
    rng = np.random.default_rng([config.evolution.seed, round_number, 1])
    for _ in range(config.evolution.lookahead):
        texts = steps.vary()(population, population, rng)
        rows = [row for row, text in enumerate(texts) if text and text.strip()]
        if rows:
            total[rows] += embed([texts[row] or "" for row in rows])
    empty = np.linalg.norm(total, axis=1) < 1e-6
    total[empty] = own[empty]
    return normalize_rows(total)


def _make_first_population(config: Config, run: Run, steps: Steps) -> list[Candidate]:
    screen = Screen(config.screening)
    first = steps.initial(screen)
    return run.save_population(0, first, dict(screen.dropped))


def _make_ballot(config: Config, run: Run, round_number: int, population: list[Candidate], steps: Steps) -> Ballot:
    points = candidate_points(config, round_number, population, steps)
    run.save_positions(round_number, points)
    return Ballot(points, np.array([candidate.label for candidate in population], dtype=np.int64))


def _select_and_log(config: Config, round_number: int, population: list[Candidate], noisy: NoisyHistogram) -> Selection:
    selected = select_round(config, round_number, noisy)
    if not selected.survivors:
        _log.warning(
            "Round %d: no candidate got more noisy votes than the threshold of %.1f (%.2f standard deviations of the "
            "noise); the round's population goes on as it is.",
            round_number,
            selected.threshold * noisy.sigma,
            selected.threshold,
        )
    share = sum(selected.weights) / max(noisy.votes[noisy.votes > 0].sum(), 1e-12)
    _log.info(
        "Round %d: %d of %d candidates survive; %.0f %% of the positive noisy votes are above the threshold.",
        round_number, len(selected.survivors), len(population), 100 * share,
    )  # fmt: skip
    return selected


def _make_next_population(
    config: Config, run: Run, round_number: int, population: list[Candidate], selected: Selection, vary: Variation
) -> list[Candidate]:
    """The next population: the best survivors unchanged, then variations of parents; screened, never above its size."""
    size = config.evolution.population
    pool = [population[row].carry_over("kept", row) for row in selected.survivors or selected.parents]
    kept = pool[: math.floor(config.evolution.kept_parents * size)]
    screen = Screen(config.screening, (candidate.text for candidate in kept))
    rng = np.random.default_rng([config.evolution.seed, round_number, 3])
    rows = selected.parents[: size - len(kept)]
    parents = [population[row] for row in rows]
    fresh = [
        Candidate(text or "", population[row].label, Origin("variation", row))
        for text, row in zip(vary(parents, pool, rng), rows, strict=True)
        if screen.keep(text)
    ]
    following = [*kept, *fresh]
    if len(following) < 2:  # nothing usable came out of the generator: the round is repeated on what there was
        _log.warning("Round %d: no variation passed the screening; the survivors go on as they are.", round_number)
        everybody = [candidate.carry_over("again", row) for row, candidate in enumerate(population)]
        following = [*pool, *everybody][:size]
    return run.save_population(round_number + 1, following, dict(screen.dropped))
