"""Pixel metrics of clips: squared distance, PSNR and SSIM. Clips are (F, H, W, 3) uint8."""

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Doubles

Clip = NDArray[np.uint8]

PEAK = 255.0
# Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", section III.
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
# The sum of this many products of two numbers from -128 to 127 is at most 2^24, so float32 adds them without
# rounding, in any order.
EXACT_TERMS = 1024


def squared_distances(clips: Clip, others: Clip) -> NDArray[np.int64]:
    """Sums of squared differences of every clip (N, ...) to every other (M, ...): (N, M), exact."""
    first, second = clips.reshape(len(clips), -1), others.reshape(len(others), -1)
    products = np.zeros((len(first), len(second)))
    squares, other_squares = np.zeros(len(first)), np.zeros(len(second))
    for start in range(0, first.shape[1], EXACT_TERMS):
        block = slice(start, start + EXACT_TERMS)
        a, b = (side[:, block].astype(np.float32) - np.float32(128) for side in (first, second))
        products += a @ b.T
        squares += np.square(a).sum(axis=1)
        other_squares += np.square(b).sum(axis=1)
    return (squares[:, None] + other_squares - 2 * products).astype(np.int64)


def psnr(squared_distance: int, size: int) -> float:
    """Peak signal-to-noise ratio in dB of two clips of `size` numbers each; infinite for equal clips."""
    return float("inf") if squared_distance == 0 else float(10 * np.log10(PEAK**2 * size / squared_distance))


def ssim(clip: Clip, other: Clip) -> float:
    """Structural similarity: the mean over frames, channels and windows inside the frame.

    Gaussian windows of 11 x 11 pixels, sigma 1.5, as in the paper. Frames must be at least as large.
    """
    return float(np.mean([_frame_ssim(*pair) for pair in zip(clip, other, strict=True)]))


def _frame_ssim(frame: Clip, other: Clip) -> float:
    x, y = frame.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    variances = _local_mean(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = _local_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return float((luminance * (2 * covariance + C2) / (variances + C2)).mean())


def _local_mean(image: Doubles) -> Doubles:
    """The weighted mean of each window inside an image (H, W, 3)."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    height, width = (side - WINDOW + 1 for side in image.shape[:2])
    tall = sum(weight * image[i : i + height] for i, weight in enumerate(weights))
    return np.asarray(sum(weight * tall[:, i : i + width] for i, weight in enumerate(weights)))
