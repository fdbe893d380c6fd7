"""Settings of hypothesis for all tests."""

import os

from hypothesis import HealthCheck, settings

# The first example pays for heavy imports, and a busy machine is no failure. CI repeats the same examples; everywhere
# else new ones are tried each time.
settings.register_profile(
    "pretext", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("pretext")
