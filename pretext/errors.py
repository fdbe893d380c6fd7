"""The errors a user can meet outside the privacy package, each with the exit code of the command line.

PretextError (1)
+-- UsageError (2)        a wrong argument, setting or input file
+-- ModelError (1)        a model that cannot be found or loaded
+-- EngineError (1)       a generator that no longer answers
+-- RunFolderError (1)    a run folder that cannot be read or written
+-- NoSignal (1)          nothing in the releases stood out of the noise
"""


class PretextError(Exception):
    """A failure told in one full sentence: what, where, what is allowed, what to do."""

    exit_code = 1


class UsageError(PretextError):
    """The request itself is wrong; nothing was started."""

    exit_code = 2


class ModelError(PretextError):
    """A model cannot be found or loaded."""


class EngineError(PretextError):
    """A generator failed for every request of a batch."""


class RunFolderError(PretextError):
    """A run folder is missing, damaged, read-only, full, or belongs to another configuration."""


class NoSignal(PretextError):
    """No candidate of any round had more noisy votes than the threshold."""
