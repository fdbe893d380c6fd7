"""Settings of hypothesis for these tests."""

from hypothesis import HealthCheck, settings

# The first example pays for heavy imports, and a busy machine is no failure.
settings.register_profile("privacy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("privacy")
