"""Obey the commands of tests/models/engines/test_subprocess.py in a child process."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import suppress

from pretext.models.engines.subprocess import connect_to_parent


def main() -> None:
    pipe = connect_to_parent()
    sys.stdout.write("a word on standard output\n")
    sys.stderr.write("a word on standard error\n")
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            match pipe.recv():
                case "echo", word:
                    pipe.send(word)
                case "modules":
                    pipe.send(sorted(sys.modules))
                case "folder of", module:
                    pipe.send(__import__(module).__file__)
                case "reseed":
                    random.seed(0)
                    pipe.send(random.random())
                case "start another":
                    pipe.send(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
                case "sleep":
                    time.sleep(600)
                case "fail", words:
                    raise ValueError(words)
                case "leave", code:
                    os._exit(code)


if __name__ == "__main__":
    main()
