"""Clips and text states of random noise, for benchmarks without data."""

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Array
from latte_cli.core.data.captions.states import MAX_TOKENS, model_input
from latte_cli.core.data.clips.batches import Content
from latte_cli.core.latents import LATENT_CHANNELS, VAE_FACTOR
from latte_cli.core.models.architectures import architecture_of
from latte_cli.core.rng import Stream, draw
from latte_cli.core.settings.schema import Settings

VIDEOS = 8
TEXT = "synthetic states"
CHANNELS = {"frames": 3, "moments": 2 * LATENT_CHANNELS, "latents": LATENT_CHANNELS}


class SyntheticSource:
    """Videos in memory with one clip's length and the experiment's size. See batches.ClipSource."""

    def __init__(self, settings: Settings, content: Content):
        self.content: Content = content
        data = settings.data
        length = (data.num_frames - 1) * data.frame_stride + 1
        side = data.image_size // (1 if content == "frames" else VAE_FACTOR)
        self.names = tuple(f"synthetic-{place}" for place in range(VIDEOS))
        self.frames = (length,) * VIDEOS
        self.labels: tuple[int | None, ...] = tuple(
            place % (settings.model.num_classes or 1) for place in range(VIDEOS)
        )
        noise = draw(settings.seed, Stream.NOISE).standard_normal
        self.values = noise((length, CHANNELS[content], side, side), np.float32)
        if content == "frames":
            self.values = np.clip(self.values, -1, 1)

    def read(self, video: int, indices: list[int], *, mirror: bool) -> NDArray[np.float32]:
        """Frames of any video: (N, C, H, W)."""
        return self.values[indices]


def text_states(settings: Settings) -> Array:
    """The model's input for a text of maximum length: (N, D) noise."""
    architecture = architecture_of(settings)
    kind = architecture.text_kind
    size = (MAX_TOKENS[kind], architecture.text_width(settings))
    return model_input(draw(settings.seed, Stream.NOISE).standard_normal(size, np.float32), kind)
