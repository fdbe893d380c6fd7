"""What the report shows of a run's profiles, as values. All of it is released, or follows from what is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from pretext.profile.query import ProfileQuery, ReleasedProfile
from pretext.run.folder import Run
from pretext.run.profiles import load_profile_answer, load_profile_query
from pretext.run.writers import load_writer

_CLEAR = 3.0  # standard deviations from which a count is taken for real
_SHOWN = 12
_NEAR, _HALF = 0.25, 0.75  # shares of the first writer's distance that are left


@dataclass(frozen=True)
class ProfileRound:
    """A round as it was released.

    Attributes:
        number: of the round.
        texts: the clients' texts, by the release, as the bound weighs them.
        features, clear_features: how many were counted; how many stand clearly above their noise.
        clusters, clear_clusters: likewise.
        covered: share of the clients' texts in the clear clusters.
        commonest: clear features that are no single sign, with their share of the texts.
    """

    number: int
    texts: float
    features: int
    clear_features: int
    clusters: int
    clear_clusters: int
    covered: float
    commonest: list[tuple[str, float]]


@dataclass(frozen=True)
class ProfileFacts:
    """The profiles of a run, and what came of them.

    Attributes:
        rounds: the finished ones.
        writer: that was chosen; None before.
        distances: of all writers that were judged, from the profile beyond its noise.
    """

    rounds: list[ProfileRound]
    writer: str | None
    distances: dict[str, float]

    @classmethod
    def read(cls, run: Run) -> ProfileFacts:
        """Read a run folder. Raises RunFolderError if a file is damaged."""
        record = load_writer(run)
        if record is None:
            return cls(list(_read_rounds(run)), None, {})
        return cls(list(_read_rounds(run)), record.writer, record.distances)

    @property
    def verdict(self) -> str:
        """Say how far the chosen writer came from where the public prompts alone are."""
        if self.writer is None:
            return "not known yet"
        first = next(iter(self.distances.values()))
        left = self.distances[self.writer] / first if first > 0 else 1.0
        if self.writer == next(iter(self.distances)):
            return "the private release did not help: no other writer is nearer than the prompts alone"
        if left < _NEAR:
            return "near: most of what the prompts miss is made good"
        return "nearer: about half of what the prompts miss is made good" if left < _HALF else "a little nearer"


def _read_rounds(run: Run) -> Iterator[ProfileRound]:
    for number in count():
        query, answer = load_profile_query(run, number), load_profile_answer(run, number)
        if query is None or answer is None:
            return
        yield _summarize(number, query, query.read(np.array(answer.noisy), answer.sigma))


def _summarize(number: int, query: ProfileQuery, profiles: list[ReleasedProfile]) -> ProfileRound:
    """Summarize a round over its labels, each in proportion to its texts."""
    shares = np.array([profile.texts for profile in profiles])
    texts = float(shares.sum())
    shares /= texts
    features = shares @ np.stack([profile.features for profile in profiles])
    clusters = shares @ np.stack([profile.clusters for profile in profiles])
    noise = np.linalg.norm(shares * [profile.feature_deviation for profile in profiles])
    spread = np.linalg.norm(shares * [profile.cluster_deviation for profile in profiles])
    names = query.vocabulary.features
    commonest = [
        (names[place], float(features[place]))
        for place in np.argsort(-features).tolist()
        if features[place] > _CLEAR * noise and " " in names[place]
    ]
    clear = clusters > _CLEAR * spread
    return ProfileRound(
        number,
        texts,
        len(names),
        int((features > _CLEAR * noise).sum()),
        len(clusters),
        int(clear.sum()),
        float(min(clusters[clear].sum(), 1.0)),
        commonest[:_SHOWN],
    )
