"""The account that a job is charged to: its name, its budget, and the statement of what was spent."""

from __future__ import annotations

from pretext.config.settings import Config, Data
from pretext.run.folder import Run
from pretext.run.privacy_statement import PrivacyStatement
from pretext.statement.statement import make_statement
from pretext.tables import Source
from privacy import Account, Budget, Ledger, LedgerConflict


def private_source(data: Data) -> Source:
    """Name the place of the private texts."""
    return Source(data.path, data.subset, data.split)


def dataset_name(data: Data, configured: str | None, ledger: Ledger) -> str:
    """Return the configured name, or make one from the path; that one must not belong to another file already.

    Raises:
        LedgerConflict: the default name is taken by another source.
    """
    if configured is not None:
        return configured
    source = private_source(data)
    known = ledger.names_of(source.identity)
    if known:
        return known[0]
    name = source.default_name
    if name in ledger.names():
        raise LedgerConflict(
            f"The dataset name {name!r}, made from the path, is taken by another file in the ledger {ledger.path}. "
            "Name this one with privacy.dataset; give the same name only if it holds the same people's data."
        )
    return name


def open_account(config: Config, ledger: Ledger, name: str, cost: float, confirmed: bool) -> Account:
    """Register the dataset, or find it; a new one's budget is the configured one, or epsilon, or what the job costs.

    Args:
        config: source, unit, relation and budget.
        ledger: holds the account.
        name: of the dataset.
        cost: epsilon of the job.
        confirmed: the source may be charged under a name other than before.

    Raises:
        LedgerConflict: the ledger knows the source or the name differently.
    """
    privacy = config.privacy
    # A budget made from a run holds that run: what was calibrated to epsilon costs at most epsilon.
    budget = Budget(privacy.budget_epsilon or privacy.epsilon or cost, privacy.delta)
    identity = private_source(config.data).identity if config.data.path else f"memory:{name}"
    return ledger.register(name, identity, config.unit, privacy.relation, budget, confirmed=confirmed)


def save_statement(config: Config, run: Run, ledger: Ledger, name: str) -> PrivacyStatement:
    """Make the privacy statement from the ledger and save it."""
    statement = make_statement(config.privacy, config.data.labels, run.id, ledger, ledger.account(name))
    return run.save_statement(statement)
