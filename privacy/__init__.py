"""Differential privacy for sums over clients: what is bounded, what is drawn, what it costs, what is left.

Numbers only: no text, no models. The one way from private to public is `Ledger.release`.
"""

from privacy.account import Account
from privacy.accounting import Cost, budget_epsilon, calibrate, compose, delta, epsilon, rdp_epsilon
from privacy.bounding import Bounded, bounded_sum, grid_for
from privacy.errors import (
    BudgetExceeded,
    InvalidParameter,
    LedgerConflict,
    LedgerCorrupted,
    LedgerError,
    LedgerLocked,
    PrivacyError,
)
from privacy.events import Budget, Release, Seal
from privacy.ledger import Ledger
from privacy.mechanisms import DiscreteGaussian
from privacy.units import Relation, Unit

__all__ = [
    "Account",
    "Bounded",
    "Budget",
    "BudgetExceeded",
    "Cost",
    "DiscreteGaussian",
    "InvalidParameter",
    "Ledger",
    "LedgerConflict",
    "LedgerCorrupted",
    "LedgerError",
    "LedgerLocked",
    "PrivacyError",
    "Relation",
    "Release",
    "Seal",
    "Unit",
    "bounded_sum",
    "budget_epsilon",
    "calibrate",
    "compose",
    "delta",
    "epsilon",
    "grid_for",
    "rdp_epsilon",
]
