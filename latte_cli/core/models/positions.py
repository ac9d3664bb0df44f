"""Sine-cosine embeddings of positions and timesteps, in NumPy."""

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Doubles


def position_table(width: int, positions: NDArray[np.int64] | Doubles) -> Doubles:
    """Sines, then cosines, of (N,) positions at width / 2 frequencies (Vaswani et al. 2017, section 3.5).

    Returns (N, width); width is even.
    """
    frequencies = 1.0 / 10000.0 ** (np.arange(width // 2, dtype=np.float64) / (width / 2.0))
    angles = positions.astype(np.float64)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def token_table(width: int, grid: int) -> Doubles:
    """Spatial position embedding: half of the channels for the column, half for the row (Peebles & Xie 2023).

    Returns (grid * grid, width); width is a multiple of 4.
    """
    rows, columns = np.divmod(np.arange(grid * grid), grid)
    return np.concatenate([position_table(width // 2, columns), position_table(width // 2, rows)], axis=1)


def frame_table(width: int, num_frames: int) -> Doubles:
    """Temporal position embedding: (num_frames, width); width is even."""
    return position_table(width, np.arange(num_frames))


def timestep_table(width: int, num_timesteps: int) -> NDArray[np.float32]:
    """`timestep_rows` of every timestep: (num_timesteps, width) float32."""
    return timestep_rows(width, np.arange(num_timesteps))


def timestep_rows(width: int, timesteps: NDArray[np.int64] | Doubles) -> NDArray[np.float32]:
    """Cosines, then sines, of timesteps (N,), frequencies from 1 to 1 / 10000 (Nichol et al. 2022, GLIDE).

    Returns (N, width) float32. Frequencies and angles are rounded to float32 as in the original, with which
    published models were trained: this changes an angle near 1000 by up to 3e-5.
    """
    half = width // 2
    exponents = np.float32(-np.log(10000.0)) * np.arange(half, dtype=np.float32) / np.float32(half)
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = (timesteps.astype(np.float32)[:, None] * frequencies).astype(np.float64)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
