"""The errors of this package, under one root.

PrivacyError
+-- InvalidParameter      a number that no guarantee can be built on
+-- BudgetExceeded        the release was refused before anything was drawn
+-- LedgerError
    +-- LedgerLocked      another process holds the ledger
    +-- LedgerCorrupted   the file is not the ledger that was written
    +-- LedgerConflict    the request contradicts what the ledger holds already
"""


class PrivacyError(Exception):
    """Anything that stops a release; the message is a full sentence that holds nothing private."""


class InvalidParameter(PrivacyError, ValueError):
    """A parameter outside the range in which the guarantee is defined."""


class BudgetExceeded(PrivacyError):
    """The dataset's budget does not hold the release; nothing was drawn and nothing was charged."""


class LedgerError(PrivacyError):
    """The ledger cannot do what it was asked to do."""


class LedgerLocked(LedgerError):
    """Another process kept the ledger locked for longer than this one was willing to wait."""


class LedgerCorrupted(LedgerError):
    """The ledger's file is damaged or is not a ledger."""


class LedgerConflict(LedgerError):
    """The request contradicts a dataset, a path or a release that the ledger holds already."""
