"""Settings of hypothesis and of signals for all tests, and the fixtures of a whole run."""

import os
import signal

from hypothesis import HealthCheck, settings

# The first example pays for heavy imports, and a busy machine is no failure. CI repeats the same examples; everywhere
# else new ones are tried each time.
settings.register_profile(
    "pretext", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("pretext")

pytest_plugins = ["tests.support.runs"]

# A shell starts what it puts into the background with Ctrl-C ignored, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
