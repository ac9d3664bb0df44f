"""Initial noise from a file instead of the seeds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.errors import LatteError
from latte_cli.core.sampling.spec import ClipSpec


def read_noise(path: Path, expected: tuple[int, ...]) -> Array:
    """Read noise (N, F, 4, h, w) from a .npy. Raises LatteError if its shape is not (N, *expected)."""
    try:
        noise = np.load(path, mmap_mode="r")  # a header may claim more than the file contains
    except (OSError, ValueError, EOFError) as error:
        raise LatteError(f"{path}: cannot be read as a .npy of noise: {error}") from error
    if not isinstance(noise, np.ndarray):
        raise LatteError(f"{path}: found an archive of arrays, expected a .npy of noise")
    if noise.dtype.kind not in "fiu":
        raise LatteError(f"{path}: found values of type {noise.dtype}, expected floating-point noise")
    if noise.ndim != 5 or noise.shape[1:] != expected or not len(noise):
        raise LatteError(f"{path}: found noise of shape {noise.shape}, expected (N, {str(expected)[1:]}")
    return np.asarray(noise, np.float32)


def initial_latents(specs: Sequence[ClipSpec], expected: tuple[int, ...]) -> list[Array | None]:
    """The initial noise of each clip, or None to use its seed.

    expected: (F, 4, h, w). Raises LatteError if the file does not contain it.
    """
    path = specs[0].initial_latents
    if path is None:
        return [None] * len(specs)
    noise = read_noise(path, expected)
    for spec in specs:
        if spec.row >= len(noise):
            raise LatteError(f"{path}: found noise of {len(noise)} clips, expected row {spec.row}")
    return [noise[spec.row] for spec in specs]
