"""Checks that the profiles of a run folder are those that were released."""

from __future__ import annotations

from collections.abc import Iterator

from pretext.run.folder import Run
from pretext.run.profiles import load_profile_answer, load_profile_query
from pretext.run.writers import load_writer
from pretext.statement.provenance import ABSENT, Difference
from privacy import Release


def check_profile(run: Run, number: int, release: Release | None) -> Iterator[Difference]:
    """Check a round: its question is the one that was answered, and its answer the one that the ledger holds.

    Args:
        run: the folder.
        number: of the round.
        release: the round's, from the ledger; None if there is none.
    """
    name = f"profile/{number:03}"
    if release is None:
        yield Difference("ledger", f"{run.id}/profile/{number}", "a release", ABSENT)
        return
    yield from check_question(run, number, release.subject)
    answer = load_profile_answer(run, number)
    noisy = ABSENT if answer is None else answer.noisy
    if noisy != release.noisy.tolist():
        yield Difference(f"{name}.released.json", "noisy", "the released values", "others")
    elif answer is not None and answer.sigma != release.mechanism.standard_deviation:
        yield Difference(f"{name}.released.json", "sigma", release.mechanism.standard_deviation, answer.sigma)


def check_question(run: Run, number: int, subject: str) -> Iterator[Difference]:
    """Check that a round's question is the one that was answered: `subject` is what the release is bound to."""
    query = load_profile_query(run, number)
    digest = ABSENT if query is None else query.digest
    if digest != subject:
        yield Difference(f"profile/{number:03}.json", "digest of the question", subject, digest)


def check_writer(run: Run) -> Iterator[Difference]:
    """Check that a finished run names its writer, and that its sample is there."""
    record = load_writer(run)
    if record is None:
        yield Difference("writer.json", "", "the chosen writer", ABSENT)
    elif record.writer not in record.distances:
        yield Difference("writer.json", "writer", "one of those that were judged", record.writer)
