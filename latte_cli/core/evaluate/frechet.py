"""The Frechet distance of two sets of features, modelled as Gaussians (Dowson & Landau 1982)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Doubles


def frechet_distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), in float64.

    first, second: features (N, D) and (M, D), one row per clip, at least two of each. m are means, S
    covariances with denominators N - 1 and M - 1, as in `numpy.cov`. There may be fewer rows than D.

    The trace of the square root equals that of the symmetric (S1^(1/2) S2 S1^(1/2))^(1/2). With S1 = A^T A
    and S2 = B^T B it is the sum of the singular values of A B^T. So no covariance or square root is computed,
    and singular covariances need no correction.
    """
    (mean, root), (other_mean, other_root) = _mean_and_root(first), _mean_and_root(second)
    between = np.square(mean - other_mean).sum()
    shared = np.linalg.svd(root @ other_root.T, compute_uv=False).sum()
    return float(between + np.square(root).sum() + np.square(other_root).sum() - 2 * shared)


def _mean_and_root(features: NDArray[Any]) -> tuple[Doubles, Doubles]:
    """The mean (D), and a matrix A (K, D), K at most D, such that A^T A is the covariance."""
    wide = np.asarray(features, np.float64)
    mean = wide.mean(axis=0)
    root = (wide - mean) / np.sqrt(len(wide) - 1)
    if len(wide) > wide.shape[1]:
        root = np.asarray(np.linalg.qr(root, mode="r"))
    return mean, root
