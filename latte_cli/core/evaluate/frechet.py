"""The Frechet distance of two sets of features, each taken for a Gaussian (Dowson & Landau 1982)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Doubles


def frechet_distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), in float64.

    first, second: features (N, D) and (M, D), a row a clip, at least two of each. m are their means, S their
    covariances with N - 1 and M - 1 in the denominator, as `numpy.cov`. Fewer rows than D are no problem.

    The trace of the square root is that of the symmetric (S1^(1/2) S2 S1^(1/2))^(1/2). With S1 = A^T A and
    S2 = B^T B it is the sum of the singular values of A B^T, so that neither a covariance nor its square root
    is ever formed, and a covariance that has no inverse needs no correction.
    """
    (mean, root), (other_mean, other_root) = _mean_and_root(first), _mean_and_root(second)
    between = np.square(mean - other_mean).sum()
    shared = np.linalg.svd(root @ other_root.T, compute_uv=False).sum()
    return float(between + np.square(root).sum() + np.square(other_root).sum() - 2 * shared)


def _mean_and_root(features: NDArray[Any]) -> tuple[Doubles, Doubles]:
    """Their mean (D), and a matrix A (K, D), K at most D, whose A^T A is their covariance."""
    wide = np.asarray(features, np.float64)
    mean = wide.mean(axis=0)
    root = (wide - mean) / np.sqrt(len(wide) - 1)
    if len(wide) > wide.shape[1]:
        root = np.asarray(np.linalg.qr(root, mode="r"))
    return mean, root
