"""The errors of the program, each with the exit code that the command line ends with.

PretextError (1)          the root, also of the privacy package's errors (`privacy.errors`, where it is defined)
+-- UsageError (2)        a wrong argument, setting or input file
+-- ModelError (1)        a model that cannot be found or loaded
+-- EngineError (1)       a generator that no longer answers
+-- RunFolderError (1)    a run folder that cannot be read or written
+-- NoSignal (1)          nothing in the releases stood out of the noise
+-- Interrupted (4)       ended from outside; the message names the command that continues
"""

from privacy.errors import PretextError

__all__ = ["EngineError", "Interrupted", "ModelError", "NoSignal", "PretextError", "RunFolderError", "UsageError"]


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


class Interrupted(PretextError):
    """Ctrl-C, SIGTERM or SIGHUP ended the work; nothing done is lost."""

    exit_code = 4
