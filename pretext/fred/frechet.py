"""Frechet distance between laws that are known by their moments, by symmetric eigendecompositions in 64-bit floats.

d^2 = |mu_1 - mu_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1^(1/2) S_2 S_1^(1/2))^(1/2)

(Dowson and Landau 1982). The last term is the sum of the square roots of the eigenvalues of a symmetric matrix: no
square root of a non-symmetric product is taken, singular covariances are as good as others, and no complex number
appears.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretext.fred.estimation import Moments
from privacy.moments import Floats


def frechet(left: Moments, right: Moments) -> Floats:
    """Compute the squared Frechet distance of two laws, or of stacks of them; covariances in the directions they share.

    Negative eigenvalues of a covariance count as 0 in the last term.
    """
    return mean_and_trace_terms(left, right) - 2 * fidelity(covariance_root(left.covariance), right.covariance)


def squared_distances(moments: Moments, root: Floats, laws: Sequence[Moments]) -> Floats:
    """Compute the squared distance of each of k laws, shape (..., k); `root` is that of the covariance of `moments`."""
    return np.stack([mean_and_trace_terms(moments, law) - 2 * fidelity(root, law.covariance) for law in laws], axis=-1)


def mean_and_trace_terms(left: Moments, right: Moments) -> Floats:
    """Compute |mu_1 - mu_2|^2 + tr S_1 + tr S_2."""
    traces = np.trace(left.covariance + right.covariance, axis1=-2, axis2=-1)
    return np.asarray(np.square(left.mean - right.mean).sum(axis=-1) + traces)


def fidelity(left_root: Floats, right: Floats) -> Floats:
    """Compute tr (S_1^(1/2) S_2 S_1^(1/2))^(1/2) from the root of one covariance and the other, both (..., r, r)."""
    product = left_root @ right @ left_root
    values = np.linalg.eigvalsh((product + np.swapaxes(product, -1, -2)) / 2)
    return np.asarray(np.sqrt(np.maximum(values, 0.0)).sum(axis=-1))


def covariance_root(covariance: Floats) -> Floats:
    """Take the symmetric square root of a covariance, or of a stack of them; negative eigenvalues count as 0."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(vectors, -1, -2))
