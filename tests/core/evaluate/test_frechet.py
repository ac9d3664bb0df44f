import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from latte_cli.core.evaluate.frechet import frechet_distance

Array = NDArray[np.float64]


def features_of(mean: Array, covariance_root: Array, number: int, seed: int) -> Array:
    """Rows with exactly this mean and covariance, up to rounding."""
    drawn = np.random.default_rng(seed).standard_normal((number, len(mean)))
    white = np.linalg.qr(drawn - drawn.mean(axis=0))[0] * np.sqrt(number - 1)
    return white @ covariance_root + mean


def by_scipy(first: Array, second: Array) -> float:
    """The formula as published, with scipy's general matrix square root."""
    mean, other = first.mean(axis=0), second.mean(axis=0)
    covariance, other_covariance = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(covariance @ other_covariance).real
    return float(np.square(mean - other).sum() + np.trace(covariance + other_covariance - 2 * root))


def test_the_distance_matches_scipy() -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((300, 120)) @ rng.standard_normal((120, 120)) / 10
    second = rng.standard_normal((400, 120)) * rng.uniform(0.1, 3, 120) + 0.3
    assert frechet_distance(first, second) == pytest.approx(by_scipy(first, second), rel=1e-9)


@pytest.mark.parametrize(("decades", "within"), [(2, 1e-9), (4, 1e-7), (6, 1e-6)])
def test_the_distance_matches_scipy_for_ill_conditioned_covariances(decades: int, within: float) -> None:
    """Standard deviations over several decades, in different directions: condition numbers of 1e4 to 1e12."""
    rng = np.random.default_rng(7)
    deviations = np.logspace(0, -decades, 64)
    axes, other_axes = (np.linalg.qr(rng.standard_normal((64, 64)))[0] for _ in range(2))
    first = features_of(np.zeros(64), deviations[:, None] * axes.T, 300, seed=8)
    second = features_of(np.ones(64) * 1e-3, deviations[::-1, None] * other_axes.T, 200, seed=9)
    assert frechet_distance(first, second) == pytest.approx(by_scipy(first, second), rel=within)


@pytest.mark.parametrize("smallest", [1e-6, 1e-12, 0.0])
def test_singular_covariances_match_the_closed_form(smallest: float) -> None:
    """With equal eigenvectors, the distance is the sum of (s1 - s2)^2 over the standard deviations."""
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.standard_normal((64, 64)))[0]
    deviations = np.append(np.logspace(3, -6, 56), np.full(8, smallest))
    others = np.append(np.logspace(1, 2, 56), np.zeros(8))
    mean, other_mean = rng.standard_normal(64), rng.standard_normal(64)
    first = features_of(mean, deviations[:, None] * axes.T, 300, seed=2)
    second = features_of(other_mean, others[:, None] * axes.T, 200, seed=3)
    expected = np.square(mean - other_mean).sum() + np.square(deviations - others).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-10)


def test_the_distance_of_fewer_clips_than_dimensions_is_that_in_their_span() -> None:
    """12 rows in 400 dimensions, rotated so that all but 40 coordinates are zero, which scipy can compute."""
    rng = np.random.default_rng(4)
    small, other = rng.standard_normal((12, 8)), rng.standard_normal((30, 8)) * 2 + 1
    turn = np.linalg.qr(rng.standard_normal((400, 400)))[0][:8]
    assert frechet_distance(small @ turn, other @ turn) == pytest.approx(by_scipy(small, other), rel=1e-9)


@pytest.mark.slow
def test_the_distance_of_a_set_to_itself_is_zero() -> None:
    features = np.random.default_rng(5).standard_normal((500, 400)).astype(np.float32) * 7
    assert abs(frechet_distance(features, features)) < 1e-9


def test_the_order_of_the_clips_does_not_matter() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.standard_normal((64, 400)), rng.standard_normal((70, 400))
    turned = frechet_distance(rng.permutation(first), rng.permutation(second))
    assert turned == pytest.approx(frechet_distance(first, second), rel=1e-12)
