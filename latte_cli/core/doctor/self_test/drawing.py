"""Weights and inputs that PyTorch is given too when the expected numbers are recorded. NumPy alone."""

import math
from zlib import crc32

import numpy as np

from latte_cli.core.arrays import Array


def normal(name: str, *shape: int) -> Array:
    """Standard normal float32 numbers, drawn by NumPy's PCG64 from the CRC-32 of a name."""
    return np.random.default_rng(crc32(name.encode())).standard_normal(shape, np.float32)


def weights(name: str, *shape: int) -> Array:
    """The values of a parameter, from its name.

    Matrices and convolutions are divided by the root of their inputs, so that activations stay near 1; a gain
    is near 1, a bias near 0.
    """
    values = normal(name, *shape)
    if len(shape) > 1:
        return values / np.float32(np.sqrt(math.prod(shape[1:])))
    return values * np.float32(0.02) + np.float32(name.endswith("weight"))
