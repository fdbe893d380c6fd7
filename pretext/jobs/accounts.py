"""Accounts."""

from __future__ import annotations

from typing import Any

from pretext.config.settings import Config
from pretext.run.folder import Run
from pretext.statement.statement import make_statement
from pretext.tables import Source
from privacy import Account, Budget, Ledger, LedgerConflict


def dataset_name(config: Config, ledger: Ledger) -> str:
    """The configured name, or the one made from the path; that one must not belong to another file already.

    Raises:
        LedgerConflict: the default name is taken by another source.
    """
    if config.privacy.dataset is not None:
        return config.privacy.dataset
    known = ledger.names_of(_private_source(config).identity)
    if known:
        return known[0]
    name = _private_source(config).default_name
    if name in ledger.names():
        raise LedgerConflict(
            f"The dataset name {name!r}, made from the path, is taken by another file in the ledger {ledger.path}. "
            "Name this one with privacy.dataset; give the same name only if it holds the same people's data."
        )
    return name


def save_statement(config: Config, run: Run, ledger: Ledger, name: str) -> dict[str, Any]:
    """Write privacy.json from the ledger and return it."""
    current = make_statement(config, run.id, ledger, ledger.account(name))
    run.save("privacy.json", current)
    return current


def register_dataset(config: Config, ledger: Ledger, name: str, cost: float, confirmed: bool) -> Account:
    """The dataset's account; a new one's budget is the configured one, or the run's epsilon, or what the run costs."""
    privacy = config.privacy
    # A budget made from a run holds that run: what was calibrated to epsilon costs at most epsilon.
    budget = Budget(privacy.budget_epsilon or privacy.epsilon or cost, privacy.delta)
    identity = _private_source(config).identity if config.data.path else f"memory:{name}"
    return ledger.register(name, identity, config.unit, privacy.relation, budget, confirmed=confirmed)


def _private_source(config: Config) -> Source:
    return Source(config.data.path, config.data.subset, config.data.split)
