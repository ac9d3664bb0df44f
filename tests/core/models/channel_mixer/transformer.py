"""The cell of channel-mixer."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from mindspore import nn

from latte_cli.core.models.architecture import Transformer
from latte_cli.core.models.latte.layers import Linear, TimestepEmbedder
from latte_cli.core.models.latte.shape import LatteShape
from latte_cli.core.models.weights import set_parameter
from latte_cli.core.rng import Stream, draw


class ChannelMixer(nn.Cell):
    """Adds to each latent pixel (C,) a product with a matrix, and a term that depends on the timestep."""

    timestep_embedder = "t_embedder"
    learn_sigma = False
    num_classes = None

    def __init__(self, shape: LatteShape, *, num_timesteps: int):
        super().__init__()
        self.clip_shape = (shape.num_frames, shape.in_channels, shape.sample_size, shape.sample_size)
        self.t_embedder = TimestepEmbedder(shape.in_channels, num_timesteps)
        self.mix = Linear(shape.in_channels, shape.in_channels)

    def config(self) -> None:
        """None: the shape is known from the settings."""

    def every_block(self) -> Iterable[Any]:
        return ()

    def lora_targets(self) -> Iterable[tuple[str, Any]]:
        return ()

    def use_flash_attention(self) -> None:
        """Do nothing: the model has no attention."""

    def construct(self, x_t: Any, timesteps: Any, condition: Any) -> Any:
        return self.predict(x_t, self.t_embedder.sinusoids(timesteps), self.prepare(condition))

    def prepare(self, condition: Any) -> tuple[Any, ...]:
        return (condition,)

    def predict(self, x_t: Any, sinusoids: Any, prepared: tuple[Any, ...]) -> Any:
        modulation = self.modulation(sinusoids, prepared)
        return self.finish(self.run_blocks(self.embed(x_t), modulation, prepared), modulation)

    def modulation(self, sinusoids: Any, prepared: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.t_embedder(sinusoids),)

    def embed(self, x_t: Any) -> Any:
        clips, frames, channels, height, width = x_t.shape
        return x_t.transpose(0, 1, 3, 4, 2).reshape(clips, frames * height * width, channels)

    def run_blocks(self, tokens: Any, modulation: tuple[Any, ...], prepared: tuple[Any, ...]) -> Any:
        return tokens + self.mix(tokens)

    def finish(self, tokens: Any, modulation: tuple[Any, ...]) -> Any:
        clips, _, channels = tokens.shape
        frames, _, height, width = self.clip_shape
        placed = tokens + modulation[0].reshape(clips, 1, channels)
        return placed.reshape(clips, frames, height, width, channels).transpose(0, 1, 4, 2, 3)


def initialise(model: Transformer, seed: int) -> None:
    """Normal values with std 0.1, each parameter from an independent random stream."""
    for place, parameter in enumerate(model.get_parameters()):
        values = draw(seed, Stream.INIT, place).normal(0, 0.1, parameter.shape)
        set_parameter(parameter, values.astype(np.float32))
