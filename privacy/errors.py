"""The errors of this package, each with the exit code that the command line ends with.

PretextError (1)                  the root of every error of the program; `pretext` exports it
+-- PrivacyError (1)
    +-- InvalidParameter (2)      a number that no guarantee can be built on
    +-- BudgetExceeded (3)        the release was refused before anything was drawn
    +-- LedgerError (1)
        +-- LedgerLocked (1)      another process holds the ledger
        +-- LedgerCorrupted (1)   the file is not the ledger that was written
        +-- LedgerConflict (2)    the request contradicts what the ledger holds already

The root is defined here because this package imports nothing of `pretext`, and one `except` clause shall catch both
packages' errors.
"""


class PretextError(Exception):
    """A failure told in one full sentence: what, where, what is allowed, what to do. It holds nothing private."""

    exit_code = 1


class PrivacyError(PretextError):
    """Anything that stops a release."""


class InvalidParameter(PrivacyError, ValueError):
    """A parameter outside the range in which the guarantee is defined."""

    exit_code = 2


class BudgetExceeded(PrivacyError):
    """The dataset's budget does not hold the release; nothing was drawn and nothing was charged."""

    exit_code = 3


class LedgerError(PrivacyError):
    """The ledger cannot do what it was asked to do."""


class LedgerLocked(LedgerError):
    """Another process kept the ledger locked for longer than this one was willing to wait."""


class LedgerCorrupted(LedgerError):
    """The ledger's file is damaged or is not a ledger."""


class LedgerConflict(LedgerError):
    """The request contradicts a dataset, a path or a release that the ledger holds already."""

    exit_code = 2
