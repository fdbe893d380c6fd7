from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from pretext.texts import Reservoir, is_usable_text


@pytest.mark.parametrize("value", [None, 5, 1.0, b"text", ["text"], "", " \n\t", "\N{NO-BREAK SPACE}"])
def test_is_usable_text__of_no_text__is_false(value: object) -> None:
    assert not is_usable_text(value)


def test_reservoir__of_a_short_stream__holds_all_of_it() -> None:
    reservoir = Reservoir[int](5, np.random.default_rng(0).integers)
    for number in range(3):
        reservoir.add(number)
    assert (reservoir.sample, reservoir.seen) == ([0, 1, 2], 3)


def test_reservoir__of_size_zero__counts_only() -> None:
    reservoir = Reservoir[int](0, np.random.default_rng(0).integers)
    reservoir.add(1)
    assert (reservoir.sample, reservoir.seen) == ([], 1)


def test_reservoir__of_a_long_stream__is_uniform() -> None:
    """False alarms: one in a million. A reservoir that draws below n - 1 is found out."""

    def unlikeliness(shift: int) -> float:
        rng, counts = np.random.default_rng(0), np.zeros(10)
        for _ in range(20_000):
            reservoir = Reservoir[int](3, lambda n: rng.integers(n - shift))
            for number in range(10):
                reservoir.add(number)
            counts[reservoir.sample] += 1
        return float(chisquare(counts).pvalue)

    assert unlikeliness(0) > 1e-6
    assert unlikeliness(1) < 1e-6
