"""The timed tasks, their sizes and their inputs, shared by the workers of both frameworks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLING_STEPS = 10
GUIDANCE_SCALE = 4.0
NUM_CLASSES = 10
IMAGE_SIZE, IMAGES = 256, 2  # of the autoencoder's frames; frames at once
LATENT_SIDE = IMAGE_SIZE // 8


class Size(NamedTuple):
    """A Latte, and how many clips it sees at once."""

    input_size: int
    hidden_size: int
    depth: int
    num_heads: int
    batch: int
    patch_size: int = 2
    num_frames: int = 16

    @property
    def clips(self) -> tuple[int, ...]:
        """The shape of a batch of latents."""
        return (self.batch, self.num_frames, 4, self.input_size, self.input_size)


SIZES = {"S/2": Size(32, 384, 12, 6, batch=1), "demo": Size(8, 144, 4, 3, batch=8)}


def latents(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Some latents, or frames."""
    return np.random.default_rng(7).standard_normal(shape, np.float32)
