"""Run a module in a child process, with its own memory, random generators and standard streams.

The child is a fresh interpreter that talks over a pipe, so it never imports the caller's `__main__`. It ends when it is
closed, when its `ChildProcess` is garbage-collected, and when this process ends, whatever the cause.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

_POLL_SECONDS = 0.5  # between two checks on a silent child: its own children may hold its end of the pipe open
_GRACE_SECONDS = 5.0  # for an orderly end
_TAIL_BYTES = 4000  # of the log, searched for the last error


class ChildEnded(Exception):
    """The child ended by itself or was killed; the message says how, as a predicate to the child's name."""


class ChildProcess:
    """`python -m module` in a process group of its own; the module calls `connect_to_parent`.

    Args:
        module: full name of the module that the child runs.
        environment: variables that override those of this process.
    """

    def __init__(self, module: str, environment: dict[str, str]) -> None:
        self._connection, child_end = multiprocessing.Pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
        # The child imports from the same folders as this process, and (-P) from no others.
        path = {"PYTHONPATH": os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)}
        with child_end:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", module, str(child_end.fileno())],
                env=os.environ | path | environment,
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[child_end.fileno()],
                start_new_session=True,
            )
        self._end = weakref.finalize(self, _end_child, os.getpid(), self._process, self._connection, self._log)

    @property
    def is_running(self) -> bool:
        """Whether the child has neither ended nor been closed."""
        return self._end.alive and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The child's process id, which is also the id of its group."""
        return self._process.pid

    def send(self, message: object) -> None:
        """Send a message, any object that pickle takes. Raises ChildEnded."""
        try:
            self._connection.send(message)
        except OSError:
            raise self._make_end_error() from None

    def receive(self) -> Any:
        """Wait for the child's next message, however long it takes. Raises ChildEnded."""
        try:
            while not self._connection.poll(_POLL_SECONDS):
                if self._process.poll() is not None and not self._connection.poll():
                    raise self._make_end_error()
            return self._connection.recv()
        except (EOFError, OSError):
            raise self._make_end_error() from None

    def last_error(self) -> str:
        """Find the last line of the child's output that reads as an error, without its class; empty without one."""
        if self._log.closed:
            return ""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _TAIL_BYTES))
        lines = self._log.read().decode(errors="replace").splitlines()
        errors = (line.partition("Error: ")[2].strip() for line in reversed(lines))
        return next(filter(None, errors), "")

    def close(self) -> None:
        """End the child and all processes that it started; a second call does nothing."""
        self._end()

    def _make_end_error(self) -> ChildEnded:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        code, reason = self._process.returncode, self.last_error()
        self.close()
        if code == -signal.SIGKILL:
            return ChildEnded("was killed from outside (signal 9, as the system does when memory runs out)")
        if code is not None and code < 0:
            return ChildEnded(f"was ended by signal {-code}")
        return ChildEnded(f"ended with exit code {code}" + (f" ({reason})" if reason else ""))


def connect_to_parent() -> Connection:
    """Open the child's pipe to its parent. From now on, the child and all that it starts end with the parent.

    An orderly end reaches the main thread as KeyboardInterrupt.
    """
    atexit.register(_end_group)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.set_inheritable(int(sys.argv[1]), False)
    return Connection(int(sys.argv[1]))


def _end_group() -> None:
    """End the whole process group, as the last exit handler, and spend no time on freeing a large heap."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    os._exit(0)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written there: it returns when the parent is gone
    os.killpg(0, signal.SIGKILL)


def _end_child(owner: int, process: subprocess.Popen[bytes], connection: Connection, log: IO[bytes]) -> None:
    if os.getpid() != owner:  # a fork of the owner inherits the object, not the child
        return
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
    connection.close()
    log.close()
