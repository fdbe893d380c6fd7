"""Whether the candidates of a finished run come from where its folder says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pretext.config.settings import Config, Initial
from pretext.formatting import format_count
from pretext.home import read_ledger
from pretext.run.folder import Run
from pretext.statement.accountants import find_account
from pretext.statement.profile_checks import check_question
from pretext.statement.provenance import Difference, check_pool_origins, check_provenance
from privacy import LedgerError


@dataclass(frozen=True)
class Origins:
    """The result of the check.

    Attributes:
        checked: the result in words, with the source of the digests that the candidates were compared with.
        wrong: what is not as it must be, a sentence each.
    """

    checked: str
    wrong: list[str]


def check_run_origins(config: Config, run: Run) -> Origins:
    """Check the origin of every candidate of a run folder. Raises RunFolderError if a file is damaged."""
    subjects, source = _read_subjects(run)
    check = _check_pool if config.privacy.release == "profile" else check_provenance
    differences = check(run, config.privacy.rounds, config.initial, config.screening.max_words, subjects)
    wrong = list(map(str, differences))
    verdict = f"wrong, {format_count(len(wrong), 'time')}" if wrong else "as they should be"
    return Origins(f"{verdict} (digests from {source})", wrong)


def _check_pool(
    run: Run, rounds: int, initial: Initial, max_words: int, subjects: Mapping[str, str]
) -> list[Difference]:
    """Do for a profile what `check_provenance` does for votes: check the questions, and where the pool comes from."""
    questions = [
        difference
        for number in range(rounds)
        if (subject := subjects.get(f"{run.id}/profile/{number}")) is not None
        for difference in check_question(run, number, subject)
    ]
    return [*questions, *check_pool_origins(run, initial, max_words)]


def _read_subjects(run: Run) -> tuple[dict[str, str], str]:
    """Read the digests that the run's releases are bound to: from the ledger, or without one, from the statement."""
    try:
        releases = find_account(run, read_ledger()).releases
        return {release.label: release.subject for release in releases}, "the ledger"
    except LedgerError:
        pass
    statement = run.statement()
    stated = () if statement is None else statement.releases
    return {release.label: release.subject_sha256 for release in stated}, "privacy.json, no ledger knows the run"
