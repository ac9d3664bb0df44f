"""Decode latents to pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.temporal_decoder import CHUNK
from latte_cli.core.data.videos.transforms import to_uint8
from latte_cli.core.models.vae.autoencoder import load_vae
from latte_cli.core.models.vae.memory import check_temporal
from latte_cli.core.models.vae.temporal import load_temporal_decoder
from latte_cli.core.settings.schema import VaeSettings

Decode = Callable[[NDArray[np.float32]], NDArray[np.uint8]]


def load_decoder(settings: VaeSettings, height: int, width: int) -> Decode:
    """A function from scaled latents (F, 4, height / 8, width / 8) to frames (F, height, width, 3)."""
    vae = load_vae(settings)
    vae.frames_at_once("decoding", height, width)
    return lambda latents: to_uint8(vae.decode(latents))


def load_temporal(folder: Path, scaling_factor: float, size: tuple[int, int, int]) -> Decode:
    """The same with Latte-1's temporal decoder. size: frames, height and width of the clips.

    Raises LatteError if frames that are decoded together do not fit into memory.
    """
    temporal, (frames, height, width) = load_temporal_decoder(folder, scaling_factor=scaling_factor), size
    check_temporal(temporal.decoder.shape.block_out_channels, min(frames, CHUNK), height, width)
    return lambda latents: to_uint8(temporal.decode(latents))
