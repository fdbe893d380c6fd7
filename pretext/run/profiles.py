"""The profiles of a run folder: what was asked of all clients, and what was released.

profile/NNN.json      the vocabulary and weights of a round's question, saved before anybody answers
profile/NNN.npy       its clusters' centers, shape (k, d)
profile/NNN.released.json  the released sum, and the standard deviation of its noise
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from pretext.errors import RunFolderError
from pretext.profile.query import ProfileQuery
from pretext.profile.vocabulary import Vocabulary
from pretext.run.folder import Run


@dataclass(frozen=True)
class _QueryFile:
    features: tuple[str, ...]
    labels: int
    feature_weight: float
    cluster_weight: float
    count_weight: float


@dataclass(frozen=True)
class ProfileAnswer:
    """What was released of a profile.

    Attributes:
        noisy: shape (dimension of the question,), the released sum.
        sigma: standard deviation of its noise.
    """

    noisy: list[float]
    sigma: float


_QUERY_FILE = TypeAdapter(_QueryFile)
_ANSWER = TypeAdapter(ProfileAnswer)


def load_profile_query(run: Run, number: int) -> ProfileQuery | None:
    """Load the question of a round, or None if it was not saved yet. Raises RunFolderError if a file is damaged."""
    name = _query_file(number)
    if (stored := run.load(name)) is None:
        return None
    try:
        file = _QUERY_FILE.validate_python(stored)
        centers = np.load(run.folder / _centers_file(number), allow_pickle=False)
        return ProfileQuery(
            Vocabulary(file.features),
            _as_centers(centers),
            file.labels,
            file.feature_weight,
            file.cluster_weight,
            file.count_weight,
        )
    except (OSError, ValueError, EOFError, ValidationError) as error:
        raise RunFolderError(
            f"{run.folder / name} or the centers beside it cannot be read ({type(error).__name__}); without them the "
            "release that they were made for cannot be used."
        ) from None


def save_profile_query(run: Run, number: int, query: ProfileQuery) -> ProfileQuery:
    """Save the question of a round; centers first, as the other file says that there is one."""
    centers = io.BytesIO()
    np.save(centers, query.centers)
    run.write(_centers_file(number), centers.getvalue())
    weights = (query.feature_weight, query.cluster_weight, query.count_weight)
    run.save(_query_file(number), asdict(_QueryFile(query.vocabulary.features, query.labels, *weights)))
    return query


def load_profile_answer(run: Run, number: int) -> ProfileAnswer | None:
    """Load what was released in a round, or None before it was. Raises RunFolderError if the file is damaged."""
    name = _answer_file(number)
    if (stored := run.load(name)) is None:
        return None
    try:
        return _ANSWER.validate_python(stored)
    except ValidationError:
        raise RunFolderError(
            f"{run.folder / name} cannot be read; delete that file, then resume: the ledger holds what was released."
        ) from None


def save_profile_answer(run: Run, number: int, answer: ProfileAnswer) -> ProfileAnswer:
    """Save what was released in a round."""
    run.save(_answer_file(number), asdict(answer))
    return answer


def _as_centers(array: NDArray[np.float32]) -> NDArray[np.float32]:
    if array.ndim != 2 or array.dtype != np.float32:
        raise ValueError("no centers")
    return array


def _query_file(number: int) -> str:
    return f"profile/{number:03}.json"


def _centers_file(number: int) -> str:
    return f"profile/{number:03}.npy"


def _answer_file(number: int) -> str:
    return f"profile/{number:03}.released.json"
