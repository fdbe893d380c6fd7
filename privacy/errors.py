"""The errors of this package.

PrivacyError
+-- InvalidParameter      a number that no guarantee can be built on
+-- BudgetExceeded        the release was refused before anything was drawn
+-- LedgerError
    +-- LedgerLocked      another process holds the ledger
    +-- LedgerCorrupted   the file is not the ledger that was written
    +-- LedgerConflict    the request contradicts what the ledger already holds
"""


class PrivacyError(Exception):
    """Whatever stops a release; the message is a full sentence that holds nothing private."""


class InvalidParameter(PrivacyError, ValueError):
    """A parameter outside the range in which the guarantee is defined."""


class BudgetExceeded(PrivacyError):
    """The dataset has not enough budget left; nothing was drawn and nothing was charged."""


class LedgerError(PrivacyError):
    """The ledger could not do what was asked of it."""


class LedgerLocked(LedgerError):
    """Another process kept the ledger locked for longer than we were willing to wait."""


class LedgerCorrupted(LedgerError):
    """The ledger's file is damaged or is not a ledger."""


class LedgerConflict(LedgerError):
    """The request contradicts a dataset, a path or a release that the ledger already holds."""
