"""A finished run of every kind, without models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pretext.config.settings import Config
from pretext.jobs.run import synthesize
from pretext.models.engines.scripted import ScriptedEngine
from pretext.prompts import Prompt
from pretext.run.folder import Run
from tests.support.runs import make_parts, reply

HOSTILE = "</script><script>document.title = 'owned'</script> <img src=http://example.invalid/x onerror=alert(1)> =1+1"


def hostile_reply(prompt: Prompt, rng: np.random.Generator) -> str:
    """Now and then a text that would do harm where it is not escaped."""
    return f"{HOSTILE} {rng.integers(1000)} and more" if rng.random() < 0.3 else reply(prompt, rng)


@pytest.fixture
def finished(make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., Run]:
    """Runs the whole job with these settings."""

    def make(*overrides: str, hostile: bool = False) -> Run:
        config = make_config(*overrides)
        engine = ScriptedEngine(hostile_reply) if hostile else None
        return synthesize(config, tmp_path / "run", make_parts(config, engine))

    return make
