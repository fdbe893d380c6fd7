from __future__ import annotations

import pytest

from tests.support import tiny


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The folder of the tiny model."""
    return str(tiny.build(tmp_path_factory.mktemp("tiny")))
