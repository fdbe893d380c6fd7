"""Propose, vote, select, vary, expand. Begin with `loop`."""
