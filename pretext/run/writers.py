"""writer.json: which writer writes a run's texts, why, and how they are accepted."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from pretext.errors import RunFolderError
from pretext.run.folder import Run

_WRITER_FILE = "writer.json"


@dataclass(frozen=True)
class Acceptance:
    """Accepts a text with probability min(1, exp(multipliers . features - log_level)).

    Attributes:
        coordinates: of the features that count.
        multipliers: theirs, of the maximum-entropy weights.
        log_level: logarithm of the relative weight from which every text is accepted.
    """

    coordinates: list[int]
    multipliers: list[float]
    log_level: float


@dataclass(frozen=True)
class WriterRecord:
    """The chosen writer.

    Attributes:
        writer: prompted, guided or adapted.
        distances: of each writer that was judged, from the profile beyond its noise; about 0 is perfect.
        shares: of each label among the texts.
        acceptances: of each label.
    """

    writer: str
    distances: dict[str, float]
    shares: list[float]
    acceptances: list[Acceptance]


_RECORD = TypeAdapter(WriterRecord)


def load_writer(run: Run) -> WriterRecord | None:
    """Load the choice, or None before it was made. Raises RunFolderError if the file is damaged."""
    if (stored := run.load(_WRITER_FILE)) is None:
        return None
    try:
        return _RECORD.validate_python(stored)
    except ValidationError:
        raise RunFolderError(
            f"{run.folder / _WRITER_FILE} cannot be read; delete that file, then resume to choose again at no cost."
        ) from None


def save_writer(run: Run, record: WriterRecord) -> WriterRecord:
    """Save the choice."""
    run.save(_WRITER_FILE, asdict(record))
    return record
