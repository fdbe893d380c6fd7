"""Numbers for whoever judges a guarantee: the whole curve of what was spent, and other accountants beside ours.

Only the exact curve is ever claimed; the others are for comparison with papers and other programs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pretext.fred.query import load_query
from pretext.run.account import other_ledger
from pretext.run.folder import Run
from pretext.statement.statement import releases_of_run
from privacy import Account, Cost, Ledger, Relation, Release, compose, epsilon, rdp_epsilon

DELTAS = tuple(10.0**-exponent for exponent in range(2, 13))


@dataclass(frozen=True)
class CurvePoint:
    """A point of the curve of releases: epsilon at this delta, under each relation."""

    delta: float
    add_remove: float
    replace_one: float

    def epsilon(self, relation: Relation) -> float:
        """Return epsilon under one relation."""
        return self.add_remove if relation is Relation.ADD_REMOVE else self.replace_one


@dataclass(frozen=True)
class AccountantBound:
    """What one way of accounting says of releases, and a sentence that describes it."""

    name: str
    epsilon: float
    words: str


def find_account(run: Run, ledger: Ledger) -> Account:
    """Find the account of the dataset that a run folder was charged to.

    Raises:
        LedgerConflict, LedgerCorrupted: the ledger is another one, does not know the dataset, or was changed.
    """
    if ledger.identity != run.account.ledger:
        raise other_ledger(run, ledger.path, "is another one")
    return ledger.account(run.account.dataset)


def find_releases(run: Run, account: Account) -> list[Release]:
    """Find the releases of a run, or the one that a FreD folder answers from.

    Raises:
        RunFolderError: the query of a FreD folder is damaged.
    """
    releases = releases_of_run(account, run.id)
    if releases or (query := load_query(run.folder)) is None:
        return releases
    return [release for release in account.releases if release.label == query.label]


def epsilon_curve(releases: Sequence[Release], deltas: Sequence[float] = DELTAS) -> list[CurvePoint]:
    """Compute epsilon of all releases together at each delta, under both relations; infinite where the slack alone is
    more than delta."""
    totals = [compose(release.cost(relation) for release in releases) for relation in Relation]
    return [CurvePoint(delta, *(epsilon(total, delta) for total in totals)) for delta in deltas]


def compare_accountants(costs: Sequence[Cost], delta: float) -> list[AccountantBound]:
    """Bound the same releases by five ways of accounting.

    The first is below all others, unless epsilon is so large (about 20) that its slack counts. Renyi and zCDP
    accounting agree for Gaussian noise, whose Renyi divergence is rho times the order, as long as the same conversion
    to (epsilon, delta) is used; the classical one is looser. Basic composition may lie below these three if there are
    few releases; for a single one it is exact.
    """
    total = compose(costs)
    return [
        AccountantBound(
            "exact", epsilon(total, delta), "Gaussian differential privacy curve plus slack: what is claimed"
        ),
        AccountantBound("Renyi", rdp_epsilon(total, delta), "what most papers print (moments accountant)"),
        AccountantBound(
            "zCDP", zcdp_epsilon(costs, delta), "rho adds up; best conversion (Canonne, Kamath, Steinke 2020)"
        ),
        AccountantBound(
            "zCDP, classical", classical_epsilon(costs, delta), "rho + 2 sqrt(rho ln 1/delta) (Bun, Steinke 2016)"
        ),
        AccountantBound("basic", basic_epsilon(costs, delta), "epsilons add up, each exact at an equal part of delta"),
    ]


def rho(cost: Cost) -> float:
    """Compute rho of zero-concentrated differential privacy; the discrete Gaussian has it without slack (Canonne et al.
    2020)."""
    return cost.mu_squared / 2


def zcdp_epsilon(costs: Sequence[Cost], delta: float) -> float:
    """Bound epsilon by zCDP, with the conversion of Canonne, Kamath and Steinke (arXiv 2004.00010, proposition 12)."""
    from dp_accounting import ZCDpEvent
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant()
    for cost in costs:
        accountant.compose(ZCDpEvent(rho(cost)))
    return float(accountant.get_epsilon(delta)) if costs else 0.0


def classical_epsilon(costs: Sequence[Cost], delta: float) -> float:
    """Bound epsilon by zCDP, with the conversion of Bun and Steinke (arXiv 1605.02065, proposition 1.3)."""
    total = math.fsum(map(rho, costs))
    return total + 2 * math.sqrt(total * math.log(1 / delta))


def basic_epsilon(costs: Sequence[Cost], delta: float) -> float:
    """Bound epsilon by basic composition: the sum of the releases' epsilons, each at an equal part of delta."""
    return math.fsum(epsilon(cost, delta / len(costs)) for cost in costs)
