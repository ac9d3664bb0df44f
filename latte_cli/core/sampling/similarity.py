"""How near a clip is to the clips that a model was trained on."""

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]


def nearest_psnr(clip: Frames, clips: Frames) -> tuple[float, int]:
    """Peak signal-to-noise ratio in dB of `clip` (F, H, W, 3) to the nearest of `clips`, and which it is."""
    errors = np.array([np.square(other.astype(np.float64) - clip).mean() for other in clips])
    nearest = int(errors.argmin())
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(255.0**2 / errors[nearest])), nearest
