import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import correlate

from latte_cli.core.evaluate.pixels import psnr, squared_distances, ssim

Clip = NDArray[np.uint8]


def noise(seed: int, *shape: int) -> Clip:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_squared_distances_are_exact_at_the_size_of_a_real_clip() -> None:
    clips, others = noise(0, 2, 16, 64, 64, 3), noise(1, 3, 16, 64, 64, 3)
    others[1] = 255 - others[1] // 200 * 255
    expected = [[int(np.square(a.astype(np.int64) - b).sum()) for b in others] for a in clips]
    assert squared_distances(clips, others).tolist() == expected


def test_psnr_matches_its_formula_and_is_infinite_for_equal_clips() -> None:
    clip, other = np.full((2, 4, 4, 3), 110, np.uint8), np.full((2, 4, 4, 3), 100, np.uint8)
    distance = int(squared_distances(clip[None], other[None])[0, 0])
    assert psnr(distance, clip.size) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(0, clip.size) == float("inf")


def window() -> NDArray[np.float64]:
    """Wang et al. 2004: 11 x 11 circular-symmetric Gaussian weights, sigma 1.5, normalised to unit sum."""
    y, x = np.mgrid[-5:6, -5:6]
    weights = np.exp(-(x**2 + y**2) / (2 * 1.5**2))
    return np.asarray(weights / weights.sum())


def by_the_paper(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Equations 13 to 16 for one channel, each window's moments as weighted sums about its means."""
    values = []
    weights, (c1, c2) = window(), ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            both = (weights * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * both + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return float(np.mean(values))


def smooth(clip: Clip) -> Clip:
    return np.stack([correlate(frame, np.full((3, 3, 1), 1 / 9)) for frame in clip.astype(float)]).astype(
        np.uint8
    )


def test_ssim_matches_the_formula_of_the_paper() -> None:
    clip = smooth(noise(2, 2, 24, 19, 3))
    other = np.clip(clip.astype(int) + noise(3, *clip.shape) // 8, 0, 255).astype(np.uint8)
    expected = np.mean(
        [by_the_paper(clip[f, ..., c] * 1.0, other[f, ..., c] * 1.0) for f in range(2) for c in range(3)]
    )
    assert ssim(clip, other) == pytest.approx(expected, rel=1e-10)


def test_ssim_is_one_for_equal_clips_and_less_for_blurred_and_noisy_ones() -> None:
    clip = noise(4, 2, 32, 32, 3)
    noisy = np.clip(clip.astype(int) + noise(5, *clip.shape) // 4, 0, 255).astype(np.uint8)
    assert ssim(clip, clip) == pytest.approx(1, rel=1e-12)
    assert ssim(clip, smooth(clip)) < ssim(clip, noisy) < 0.99
