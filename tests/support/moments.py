"""A small query for the tests of `privacy.moments` and of what FreD makes of its release."""

from __future__ import annotations

import numpy as np

from privacy.moments import MomentQuery

D = 4
"""Width of the rows that it takes."""


def make_query(rank: int = 2, count: float = 0.2, mean: float = 0.6, radius: float = 1.0) -> MomentQuery:
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((D, D)))[0]
    return MomentQuery(np.full(D, 0.1), basis[:, :3], rank, radius, radius * 0.8, mean, count)
