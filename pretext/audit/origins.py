"""Whether the candidates of a finished run come from where its folder says."""

from __future__ import annotations

from dataclasses import dataclass

from pretext.config.settings import Config
from pretext.formatting import format_count
from pretext.home import read_ledger
from pretext.run.folder import Run
from pretext.statement.accountants import find_account
from pretext.statement.provenance import check_provenance
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
    differences = check_provenance(run, config.privacy.rounds, config.initial, config.screening.max_words, subjects)
    wrong = list(map(str, differences))
    verdict = f"wrong, {format_count(len(wrong), 'time')}" if wrong else "as they should be"
    return Origins(f"{verdict} (digests from {source})", wrong)


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
