"""The account that a run folder is charged to, and the check that a ledger is the one that holds it.

A run folder names its dataset and the identity of its ledger. Beside another ledger, or an older copy of its own, the
releases that it holds would be drawn a second time, and only one of the two would be charged.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pretext.files import read_file
from pretext.run.privacy_statement import STATEMENT_FILE
from privacy import Ledger, LedgerConflict

if TYPE_CHECKING:
    from pretext.run.folder import Run

_RELEASED = {
    "votes": ("selected", re.compile(r"(\d{3,})\.json", re.ASCII)),
    "profile": ("profile", re.compile(r"(\d{3,})\.released\.json", re.ASCII)),
}
"""By kind of release, the folder and the names of the files that hold what follows from it, with its round."""


@dataclass(frozen=True)
class AccountReference:
    """Names an account in the ledger.

    Attributes:
        dataset: name of the account.
        ledger: identity of the ledger.
        path: where the ledger lay, for people.
    """

    dataset: str
    ledger: str
    path: str

    @classmethod
    def of(cls, dataset: str, ledger: Ledger) -> AccountReference:
        """Name the account of a dataset."""
        return cls(dataset, ledger.identity, str(ledger.path))


def check_ledger(run: Run, ledger: Ledger, query_label: str | None = None) -> None:
    """Check that a ledger is the one that the run is charged to, and holds every release that the folder holds.

    Args:
        run: the folder.
        ledger: the one at hand.
        query_label: of the release that a FreD folder answers from, where its query can be read.

    Raises:
        LedgerConflict: it is another ledger, or an older copy.
    """
    if ledger.identity != run.account.ledger:
        raise other_ledger(run, ledger.path, "is another one")
    releases = ledger.account(run.account.dataset).releases if run.account.dataset in ledger.names() else ()
    known = {release.label for release in releases}
    if lost := held_labels(run) - known:
        raise other_ledger(run, ledger.path, f"does not hold release {min(lost)!r}, which the folder holds")
    answers = {f"{run.id}/fred", query_label}
    if holds_ranking(run) and not any(
        label in answers or (query_label is None and label.startswith("fred/")) for label in known
    ):
        raise other_ledger(run, ledger.path, "does not hold the release behind the folder's ranking")


def other_ledger(run: Run, path: Path, reason: str) -> LedgerConflict:
    """Say that the ledger at `path` is not the one that a run is charged to, and what to do."""
    return LedgerConflict(
        f"{run.folder} is charged to the ledger {run.account.path}; the ledger {path} {reason}. Nothing was drawn. Set "
        "PRETEXT_HOME to the folder of the right ledger, or restore it from a copy that holds every release."
    )


def held_labels(run: Run) -> set[str]:
    """List the labels of the releases that a folder holds something of, or states."""
    held = {
        f"{run.id}/{kind}/{int(name[1])}"
        for kind, (folder, pattern) in _RELEASED.items()
        for path in (run.folder / folder).glob("*")
        if (name := pattern.fullmatch(path.name))
    }
    return held | set(_stated_labels(run.folder / STATEMENT_FILE))


def holds_ranking(run: Run) -> bool:
    """Say whether a folder holds an answer of FreD."""
    return (run.folder / "ranking.json").exists()


def _stated_labels(path: Path) -> list[str]:
    """List the labels in a statement; one that is damaged, which a resume writes anew, has none."""
    try:
        return [str(release["label"]) for release in json.loads(read_file(path))["releases"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return []
