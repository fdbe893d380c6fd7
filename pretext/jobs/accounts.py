"""The account that a job is charged to: its name, its budget, its reservation, and the statement of what was spent."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pretext.calibration import Calibration, explain_slack
from pretext.config.resolve import compare_configs
from pretext.config.settings import Config, Privacy
from pretext.errors import RunFolderError, UsageError
from pretext.fred.query import load_query
from pretext.home import ledger_path, open_ledger
from pretext.run.account import AccountReference, check_ledger, held_labels, holds_ranking, other_ledger
from pretext.run.folder import Job, Run
from pretext.run.lock import is_at_work
from pretext.run.privacy_statement import PrivacyStatement
from pretext.separation import private_source
from pretext.statement.statement import make_statement, releases_of_run
from pretext.tables import Source
from privacy import Account, Budget, Cost, Ledger, LedgerError, Unit, budget_epsilon

_log = logging.getLogger("pretext")


def find_run(
    config: Config, folder: Path, ledger: Ledger | None, fixed: tuple[str, ...] = ("",), job: Job = "run"
) -> Run | None:
    """Find the run that a folder holds already; None if there is none, or it released nothing and is begun anew.

    Args:
        config: of the run that is asked for.
        folder: where it lies.
        ledger: default: the user's.
        fixed: how the names of settings begin that must not differ.
        job: that is asked for.

    Raises:
        RunFolderError: the folder holds releases of another configuration, or is damaged.
        LedgerConflict: the ledger is not the one that the folder is charged to.
    """
    if not (folder / "run.json").exists():
        return None
    run, stored = Run.open(folder)
    ledger = charged_ledger(run, ledger)
    changed = [key for key in compare_configs(config, stored) if key.startswith(fixed)]
    changed += ["the job"] * (run.job != job)
    if not changed:
        return run
    if _has_releases(run, ledger):
        raise RunFolderError(
            f"{folder} holds a run of another configuration (it differs in {', '.join(changed)}); give another folder "
            "with --out, or the same settings (`pretext resume` takes them from the folder)."
        )
    return None


def begin_run(config: Config, folder: Path, ledger: Ledger, account: Account, job: Job = "run") -> Run:
    """Make a run folder, or take over one that `find_run` left to be begun anew. Raises RunFolderError."""
    reference = AccountReference.of(account.name, ledger)
    if (folder / "run.json").exists():
        return Run.open(folder)[0].begin_anew(config, reference, job)
    return Run.create(folder, config, reference, job)


def charged_ledger(run: Run, ledger: Ledger | None = None) -> Ledger:
    """Return the ledger that a run is charged to, default: the user's, once it is seen to hold the folder's releases.

    Raises:
        LedgerConflict: it is another ledger, or an older copy, or there is none.
    """
    if ledger is None:
        if not ledger_path().exists():
            raise other_ledger(run, ledger_path(), "is not there")
        ledger = open_ledger()
    check_ledger(run, ledger, _query_label(run))
    return ledger


def open_account(config: Config, ledger: Ledger, run: Run | None, cost: Cost, confirmed: bool) -> Account:
    """Register the dataset, or find it; a new one's budget is the configured one, or epsilon, or what holds the job.

    Args:
        config: source, unit, relation and budget.
        ledger: holds the account.
        run: the one that goes on; None for a new one.
        cost: of the whole job.
        confirmed: the source may be charged under a name other than before.

    Raises:
        LedgerConflict: the ledger knows the source or the name differently.
        UsageError: the dataset is new, and no budget holds the configured noise.
    """
    privacy, source = config.privacy, private_source(config.data)
    known = ledger.names()
    name, chosen = _dataset_name(config, ledger, run)
    # A budget made from a run holds that run: what was calibrated to epsilon costs at most epsilon.
    budget = Budget(privacy.budget_epsilon or privacy.epsilon or _budget_for(privacy, cost), privacy.delta)
    if name in known:
        _free_abandoned(ledger, name, run)
    account = ledger.register(
        name,
        source.identity if config.data.path else f"memory:{name}",
        config.unit,
        privacy.relation,
        budget,
        file=_file_identity(source) if config.data.path else "",
        run="" if run is None else run.id,
        chosen=chosen,
        confirmed=confirmed,
    )
    if name not in known:
        _announce(account, ledger, known)
    return account


@contextmanager
def reservation(ledger: Ledger, account: Account, run: Run, cost: Cost, unit: Unit) -> Iterator[None]:
    """Hold what a run may still draw while it works, so that no other one can take it away in the middle.

    What is left at the end is given back; all of it, if the run ends early without having drawn anything. A run that
    ends early after it has drawn keeps the rest, so that it can be resumed.

    Raises:
        BudgetExceeded: the dataset's budget does not hold `cost`; nothing was drawn.
    """
    ledger.reserve(account.name, run.id, cost, unit, str(run.folder.absolute()))
    try:
        yield
    except BaseException:
        with suppress(LedgerError):
            if not releases_of_run(ledger.account(account.name), run.id):
                ledger.give_back(account.name, run.id)
        raise
    ledger.give_back(account.name, run.id)


def save_statement(config: Config, run: Run, ledger: Ledger) -> PrivacyStatement:
    """Make the privacy statement from the ledger and save it."""
    account = ledger.account(run.account.dataset)
    return run.save_statement(make_statement(config, Calibration.of(config), run.id, ledger, account))


def _budget_for(privacy: Privacy, cost: Cost) -> float:
    """Return the least epsilon whose budget holds a job of a configured noise. Raises UsageError if none does."""
    least = budget_epsilon(cost, privacy.delta)
    if least == math.inf:
        raise UsageError(explain_slack(privacy, cost) or "No budget holds this noise; take more.")
    return least


def _dataset_name(config: Config, ledger: Ledger, run: Run | None) -> tuple[str, bool]:
    """Return the name of the dataset, and whether it is more than one made from the path."""
    source, configured = private_source(config.data), config.privacy.dataset
    if configured is not None:
        return configured, True
    if run is not None:
        return run.account.dataset, True
    known = ledger.names_of(source.identity)
    return (known[0], True) if known else (source.default_name, False)


def _free_abandoned(ledger: Ledger, name: str, run: Run | None) -> None:
    """Give back what killed starts have reserved: runs that drew nothing, in whose folders nobody works."""
    account = ledger.account(name)
    for holder in account.balance.reserved:
        is_own = run is not None and run.id == holder
        if not is_own and not releases_of_run(account, holder) and not is_at_work(Path(account.folders[holder])):
            ledger.give_back(name, holder)


def _file_identity(source: Source) -> str:
    """Return what tells a file from all others under any name: device and inode; empty if there is no file."""
    try:
        status = source.file and source.file.stat()
    except (OSError, ValueError):
        return ""
    return f"{status.st_dev}:{status.st_ino}" if status else ""


def _announce(account: Account, ledger: Ledger, known: list[str]) -> None:
    """Say aloud that a dataset is new, so that a second budget for the same people is not begun without a word."""
    others = f" The ledger also knows: {', '.join(known)}." if known else ""
    _log.warning(
        "Dataset %r is new in the ledger %s; epsilon %.10g at delta %g is the most that may ever leave it. If the same "
        "people's data were charged under another name, use that one (privacy.dataset).%s",
        account.name, ledger.path, account.budget.epsilon, account.budget.delta, others,
    )  # fmt: skip


def _has_releases(run: Run, ledger: Ledger) -> bool:
    """Say whether anything was released for a folder, by what it holds or by its ledger."""
    if held_labels(run) or holds_ranking(run):
        return True
    if run.account.dataset not in ledger.names():
        return False
    account, query_label = ledger.account(run.account.dataset), _query_label(run)
    return bool(releases_of_run(account, run.id)) or any(release.label == query_label for release in account.releases)


def _query_label(run: Run) -> str | None:
    """Return the label that the release of a FreD folder has; None without a query, or with one that is damaged."""
    with suppress(RunFolderError):
        query = load_query(run.folder)
        return None if query is None else query.label
    return None
