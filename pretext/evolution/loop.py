"""The loop: propose, vote, release, select, vary. PrE-Text (Hou et al., ICML 2024), algorithm 2."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pretext.clients.federation import Federation
from pretext.clients.voting import Ballot, VoteRule
from pretext.config.settings import Evolution, Screening
from pretext.evolution.releases import RoundReleases
from pretext.evolution.selection import select_round
from pretext.run.folder import Run
from pretext.run.records import Candidate, Origin, Selection, digest_population
from pretext.screening.screen import Screen
from pretext.screening.usable import LEAST_SHARE, make_barren_error
from pretext.texts import is_usable_text
from pretext.vectors import normalize_rows

_log = logging.getLogger("pretext")


class Models(Protocol):
    """The models that write and embed candidates, each opened when first needed."""

    def open_all(self) -> None:
        """Open every model that the rounds need."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows, shape (len(texts), d)."""
        ...

    def vary(
        self, parents: Sequence[Candidate], pool: Sequence[Candidate], rng: np.random.Generator
    ) -> list[str | None]:
        """One variation per parent, see `pretext.evolution.variation.Variation`."""
        ...


def evolve(
    run: Run,
    population: list[Candidate],
    releases: RoundReleases,
    federation: Federation,
    models: Models,
    *,
    rounds: int,
    rule: VoteRule,
    evolution: Evolution,
    screening: Screening,
) -> None:
    """Run all rounds. What the run folder or the ledger already holds is not done again.

    Args:
        run: the folder; holds populations and selections afterwards.
        population: the first one, as it is saved in the folder.
        releases: of this run's votes.
        federation: asks the clients.
        models: write variations and embed candidates.
        rounds: how many.
        rule: how a client votes.
        evolution: how survivors and parents are selected.
        screening: what a candidate must be.

    Raises:
        BudgetExceeded: the ledger refused a round.
    """
    for number in range(rounds):
        release = releases.replay(number, digest_population(population))  # None unless this round was released before
        if release is None:
            models.open_all()  # a model that cannot be loaded must not cost budget
            points = candidate_points(number, population, models, evolution)  # 1. public
            run.save_positions(number, points)
            bounded = federation.vote(make_ballot(points, population), rule)  # 2. private: only here clients are asked
            # 3. charged and drawn at once
            release = releases.release(number, digest_population(population), bounded)
        selection = run.selection(number)  # 4. post-processing from here on
        if selection is None:
            selection = select_round(number, release.noisy, release.mechanism.standard_deviation, evolution)
            _log_selection(number, selection)
            run.save_selection(number, selection)
        if number + 1 < rounds:
            population = run.population(number + 1) or next_population(
                number, population, selection, models, run, evolution, screening
            )


def candidate_points(
    number: int, population: Sequence[Candidate], models: Models, evolution: Evolution
) -> NDArray[np.float32]:
    """Place each candidate of a round, shape (n, d): at the unit mean of the unit embeddings of its variations.

    With lookahead 0, or where every variation of a candidate failed, the embedding of its own text.
    """
    own = models.embed([candidate.text for candidate in population])
    if evolution.lookahead == 0:
        return own
    total = np.zeros_like(own)
    rng = np.random.default_rng([evolution.seed, number, 1])
    for _ in range(evolution.lookahead):
        texts = models.vary(population, population, rng)
        usable = {row: text for row, text in enumerate(texts) if is_usable_text(text)}
        if usable:
            total[list(usable)] += models.embed(list(usable.values()))
    empty = np.linalg.norm(total, axis=1) < 1e-6
    total[empty] = own[empty]
    return normalize_rows(total)


def make_ballot(points: NDArray[np.float32], population: Sequence[Candidate]) -> Ballot:
    """Make the question to the clients about a population."""
    return Ballot(points, np.array([candidate.label for candidate in population], dtype=np.int64))


def next_population(
    number: int,
    population: Sequence[Candidate],
    selection: Selection,
    models: Models,
    run: Run,
    evolution: Evolution,
    screening: Screening,
) -> list[Candidate]:
    """Make and save the population after round `number`: the best survivors unchanged, then screened variations.

    It is never larger than `evolution.population`. Where nothing new comes out of the generator, the survivors and the
    rest of the round go on as they are.

    Raises:
        EngineError: almost none of the variations is usable; what the round needs is asked for again at a resume.
    """
    size = evolution.population
    pool = [population[row].carry_over("kept", row) for row in selection.survivors or selection.parents]
    elite = pool[: math.floor(evolution.kept_parents * size)]
    screen = Screen(screening, (candidate.text for candidate in elite))
    rng = np.random.default_rng([evolution.seed, number, 3])
    rows = selection.parents[: size - len(elite)]
    texts = models.vary([population[row] for row in rows], pool, rng)
    _require_usable_variations(texts, len(set(rows)), screening)
    variations = [
        Candidate(text or "", population[row].label, Origin("variation", row))
        for text, row in zip(texts, rows, strict=True)
        if screen.keep(text)
    ]
    following = [*elite, *variations]
    if len(following) < 2:
        _log.warning("Round %d: no variation passed the screening; the survivors go on as they are.", number)
        everybody = [candidate.carry_over("again", row) for row, candidate in enumerate(population)]
        following = [*pool, *everybody][:size]
    return run.save_population(number + 1, following, dict(screen.dropped))


def _require_usable_variations(texts: Sequence[str | None], parents: int, screening: Screening) -> None:
    """Refuse to spend another round where almost all texts are unfit, or far fewer differ than there are parents."""
    screen = Screen(screening)
    usable = sum(screen.keep(text) for text in texts)
    fit = usable + screen.dropped["duplicate"]
    if texts and (fit < LEAST_SHARE * len(texts) or usable < LEAST_SHARE * parents):
        raise make_barren_error(usable, screen.dropped)


def _log_selection(number: int, selection: Selection) -> None:
    if not selection.survivors:
        _log.warning(
            "Round %d: no candidate got more noisy votes than the threshold of %.1f (%.2f standard deviations of the "
            "noise); the round's population goes on as it is.",
            number,
            selection.threshold * selection.sigma,
            selection.threshold,
        )
    share = sum(selection.weights) / max(sum(vote for vote in selection.noisy if vote > 0), 1e-12)
    _log.info(
        "Round %d: %d of %d candidates survive; %.0f %% of the positive noisy votes are above the threshold.",
        number, len(selection.survivors), len(selection.noisy), 100 * share,
    )  # fmt: skip
