"""Sizes and weights of a pipeline's vae_temporal_decoder. Does not import MindSpore."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.open import Weights, open_weights
from latte_cli.core.checkpoints.tensors import Shape
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import LATENT_CHANNELS, VAE_FACTOR

DECODER = "decoder."
GROUPS = 32  # of all its group norms
CHUNK = 14
"""Frames decoded together, as in diffusers' LattePipeline."""


@dataclass(frozen=True)
class TemporalDecoderShape:
    """The sizes that define the decoder, with diffusers' names."""

    block_out_channels: tuple[int, ...]
    layers_per_block: int
    latent_channels: int = LATENT_CHANNELS


class TemporalDecoderWeights(Mapping[str, NDArray[np.float32]]):
    """The decoder's tensors by their names without "decoder.", each read on access."""

    def __init__(self, weights: Weights):
        self.weights = weights
        self.names = [name for name in weights.names if name.startswith(DECODER)]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return np.asarray(self.weights.read(DECODER + name), np.float32)

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(DECODER) for name in self.names)

    def __len__(self) -> int:
        return len(self.names)

    def shapes(self) -> dict[str, Shape]:
        """Each tensor's shape by its name in the file."""
        return {name: self.weights.shape(name) for name in self.names}

    def parameters(self) -> int:
        """Total number of parameters."""
        return sum(map(prod, self.shapes().values()))


def open_temporal_decoder(folder: Path) -> tuple[TemporalDecoderShape, TemporalDecoderWeights]:
    """The sizes and weights of an AutoencoderKLTemporalDecoder's decoder, without reading the weights.

    Raises LatteError if the folder contains no weights or another model.
    """
    weights = open_weights(folder)
    shapes = {name: weights.shape(name) for name in weights.names}
    widths: list[tuple[int, ...]] = []
    while bias := shapes.get(f"decoder.up_blocks.{len(widths)}.resnets.0.spatial_res_block.conv2.bias"):
        widths.append(bias)
    layers = 0
    while f"decoder.up_blocks.0.resnets.{layers}.temporal_res_block.conv2.bias" in shapes:
        layers += 1
    conv_in = shapes.get("decoder.conv_in.weight", ())
    if len(widths) != VAE_FACTOR.bit_length() or layers < 2 or len(conv_in) != 4:
        raise LatteError(f"{folder}: found no temporal decoder with an upsampling factor of {VAE_FACTOR}")
    channels = tuple(width[0] for width in reversed(widths))
    if any(width % GROUPS for width in channels):
        raise LatteError(f"{folder}: channels {channels}, expected multiples of {GROUPS}")
    if conv_in[1] != LATENT_CHANNELS:
        raise LatteError(f"{folder}: found {conv_in[1]} latent channels, expected {LATENT_CHANNELS}")
    return TemporalDecoderShape(channels, layers - 1), TemporalDecoderWeights(weights)
