"""The loop of a profile: ask what the clients' texts are like, release it, and write what the pool lacks.

A round is as in `pretext.evolution.loop`, with clusters of a large pool in the place of candidates: the clients vote
for the cluster that each text is nearest to, and count public features in the same vector. The next pool has new texts
that begin as the clients' do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pretext.clients.federation import Federation
from pretext.config.settings import Profile
from pretext.evolution.asking import make_query
from pretext.evolution.releases import RoundReleases
from pretext.evolution.weighing import Target
from pretext.profile.query import ProfileQuery, ReleasedProfile
from pretext.run.folder import Run
from pretext.run.profiles import (
    ProfileAnswer,
    load_profile_query,
    save_profile_answer,
    save_profile_query,
)
from pretext.run.records import Candidate


class Models(Protocol):
    """The models that write and embed texts, each opened when first needed."""

    def open_all(self) -> None:
        """Open every model that the rounds need."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows, shape (len(texts), d)."""
        ...


@dataclass(frozen=True)
class Questions:
    """How the question of a round is made of a pool. Public.

    Attributes:
        profile: clusters and shares.
        features: most features.
        labels: number of labels, 1 without.
        texts_per_client: most texts of a client.
        general_words: public words, the most common first; called for once.
        seed: of the clustering.
    """

    profile: Profile
    features: int
    labels: int
    texts_per_client: int
    general_words: Callable[[], Sequence[str]]
    seed: int

    def make(self, number: int, pool: Sequence[Candidate], models: Models) -> ProfileQuery:
        """Make the question of round `number`."""
        texts = [candidate.text for candidate in pool]
        return make_query(
            texts,
            models.embed(texts),
            self.general_words(),
            features=self.features,
            clusters=self.profile.clusters,
            labels=self.labels,
            texts_per_client=self.texts_per_client,
            share=self.profile.feature_share,
            seed=self.seed + number,
        )


def evolve_profile(
    run: Run,
    pool: list[Candidate],
    releases: RoundReleases,
    federation: Federation,
    models: Models,
    write_guided: Callable[[int, Sequence[Target]], list[Candidate]],
    *,
    rounds: int,
    questions: Questions,
) -> tuple[list[Candidate], list[Target]]:
    """Run all rounds. What the run folder or the ledger already holds is not done again.

    Args:
        run: the folder; holds questions, answers and new texts afterwards.
        pool: the first one, as it is saved in the folder.
        releases: of this run's profiles.
        federation: asks the clients.
        models: embed the pool.
        write_guided: writes and saves the texts of the next round's number that targets ask for.
        rounds: how many.
        questions: how they are made.

    Returns:
        The whole pool, and what the releases say of each label.

    Raises:
        BudgetExceeded: the ledger refused a round.
        NoSignal: the released number of texts does not stand above its noise.
    """
    queries: list[ProfileQuery] = []
    answers: list[list[ReleasedProfile]] = []
    for number in range(rounds):
        query = load_profile_query(run, number)
        if query is None:
            query = save_profile_query(run, number, questions.make(number, pool, models))  # 1. public
        release = releases.replay(number, query.digest)  # None unless this round was released before
        if release is None:
            models.open_all()  # a model that cannot be loaded must not cost budget
            bounded = federation.profile(query)  # 2. private: only here clients are asked
            release = releases.release(number, query.digest, bounded)  # 3. charged and drawn at once
        sigma = release.mechanism.standard_deviation
        save_profile_answer(
            run, number, ProfileAnswer(release.noisy.tolist(), sigma)
        )  # 4. post-processing from here on
        queries.append(query)
        answers.append(query.read(release.noisy, sigma))
        targets = [Target.of(queries, profiles) for profiles in zip(*answers, strict=True)]
        pool = [*pool, *(run.population(number + 1) or write_guided(number + 1, targets))]
    return pool, targets
