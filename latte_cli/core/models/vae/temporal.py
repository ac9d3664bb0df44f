"""The decoder of AutoencoderKLTemporalDecoder, from Stable Video Diffusion (arXiv 2311.15127).

Each block processes single frames, like Stable Diffusion's decoder, then mixes every pixel with the same
pixel of neighbouring frames. Parameter names are those of diffusers.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mindspore import Tensor, nn, ops

from latte_cli.core.arrays import Array
from latte_cli.core.checkpoints.temporal_decoder import (
    CHUNK,
    GROUPS,
    TemporalDecoderShape,
    open_temporal_decoder,
)
from latte_cli.core.kernels.selection import kernels_available
from latte_cli.core.kernels.temporal import temporal_block
from latte_cli.core.models.vae.layers import Attention, Convolution, GroupNorm, ResidualBlock, Upsample
from latte_cli.core.models.weights import load_weights, zeros

EPSILON = 1e-5  # of the normalisations over frames


class TemporalVae:
    """A temporal decoder with its weights. See autoencoder.Vae."""

    def __init__(self, decoder: "TemporalDecoder", *, scaling_factor: float):
        self.decoder, self.scaling_factor = decoder, scaling_factor

    def decode(self, latents: Array) -> Array:
        """Decode a clip's scaled latents (F, 4, h, w) to frames (F, 3, 8h, 8w) in [-1, 1], not clipped.

        Frames are decoded in chunks of 14, like diffusers' LattePipeline; the last chunk may be shorter.
        """
        unscaled = np.ascontiguousarray(latents / np.float32(self.scaling_factor), np.float32)
        chunks = [unscaled[first : first + CHUNK] for first in range(0, len(unscaled), CHUNK)]
        return np.concatenate([self.decoder(chunk) for chunk in chunks])


def load_temporal_decoder(folder: Path, *, scaling_factor: float) -> TemporalVae:
    """Build the decoder of a pipeline's vae_temporal_decoder.

    Raises LatteError if its weights are missing, damaged or of another model.
    """
    shape, weights = open_temporal_decoder(folder)
    decoder = TemporalDecoder(shape)
    load_weights(decoder, weights, source=str(folder))
    return TemporalVae(decoder, scaling_factor=scaling_factor)


class TemporalDecoder(nn.Cell):
    """Decodes a chunk of latents. Not compiled, since a graph would hold the values of all frames at once.

    Frames are kept on the host and replaced by each layer, so that little more memory is needed.
    """

    def __init__(self, shape: TemporalDecoderShape):
        super().__init__()
        self.shape = shape
        widths = shape.block_out_channels[::-1]
        self.conv_in = Convolution(shape.latent_channels, widths[0])
        middle = nn.Cell()
        middle.attentions = nn.CellList([Attention(widths[0], GROUPS)])
        middle.resnets = nn.CellList(
            [MixedBlock(widths[0], widths[0]) for _ in range(shape.layers_per_block)]
        )
        self.mid_block = middle
        stages = []
        for place, width in enumerate(widths):
            before = [widths[max(0, place - 1)]] + [width] * shape.layers_per_block
            stage = nn.Cell()
            stage.resnets = nn.CellList([MixedBlock(inputs, width) for inputs in before])
            stage.upsamplers = nn.CellList([Upsample(width)] if place + 1 < len(widths) else [])
            stages.append(stage)
        self.up_blocks = nn.CellList(stages)
        self.conv_norm_out = GroupNorm(widths[-1], GROUPS, silu=True)
        self.conv_out = Convolution(widths[-1], 3)
        self.time_conv_out = TimeConvolution(3)

    def __call__(self, latents: Array) -> Array:
        """Decode unscaled latents of a chunk (F, 4, h, w) to frames (F, 3, 8h, 8w)."""
        frames = list(np.split(latents, len(latents)))
        _each([self.conv_in], frames)
        for place, block in enumerate(self.mid_block.resnets):
            if place == 1:  # a single attention, for any number of blocks
                _each([self.mid_block.attentions[0]], frames)
            block.apply([], frames)
        before: list[nn.Cell] = []
        for stage in self.up_blocks:
            for block in stage.resnets:
                block.apply(before, frames)
                before = []
            before = list(stage.upsamplers)
        _each([self.conv_norm_out, self.conv_out], frames)
        return np.asarray(self.time_conv_out(Tensor(np.concatenate(frames))).asnumpy())


class MixedBlock(nn.Cell):
    """A spatial residual block, and a temporal one blended by a learned factor."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.spatial_res_block = ResidualBlock(inputs, outputs, GROUPS)
        self.temporal_res_block = TemporalBlock(outputs)
        mixer = nn.Cell()
        mixer.mix_factor = zeros(1)
        self.time_mixer = mixer

    def apply(self, before: Sequence[nn.Cell], frames: list[Array]) -> None:
        """Apply the layers `before` and the block to frames (1, C, H, W), in place.

        They are applied together, so that intermediate frames are not kept for the complete chunk.
        """
        _each([*before, self.spatial_res_block], frames)
        share = 1 / (1 + np.exp(-self.time_mixer.mix_factor.asnumpy().astype(np.float64)))
        self.temporal_res_block.apply(frames, float(share[0]))


class TemporalBlock(nn.Cell):
    """x + share * conv(silu(norm(conv(silu(norm(x)))))); norms over all frames, convolutions over three."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = GroupNorm(width, GROUPS, silu=True), GroupNorm(width, GROUPS, silu=True)
        self.conv1, self.conv2 = TimeConvolution(width), TimeConvolution(width)

    def apply(self, frames: list[Array], share: float) -> None:
        """Apply the block to frames (1, C, H, W), in place."""
        halves = ((self.norm1, self.conv1), (self.norm2, self.conv2))
        if kernels_available():
            weights = [
                part.asnumpy() for half in halves for cell in half for part in (cell.weight, cell.bias)
            ]
            temporal_block(frames, weights, groups=GROUPS, eps=EPSILON, share=share)
            return
        change = together = Tensor(np.concatenate(frames))
        for norm, convolution in halves:
            change = convolution(_normalised(change, norm))
        frames[:] = np.split((together + share * change).asnumpy(), len(frames))


class TimeConvolution(nn.Cell):
    """A convolution over three frames, with zero padding."""

    def __init__(self, width: int):
        super().__init__()
        self.weight, self.bias = zeros(width, width, 3, 1, 1), zeros(width)

    def construct(self, frames: Tensor) -> Tensor:
        count, channels, height, width = frames.shape
        edge = ops.zeros((1, channels, height * width), frames.dtype)
        around = ops.concat((edge, frames.reshape(count, channels, -1), edge))
        taps = self.weight.reshape(channels, channels, 3)
        total = self.bias.reshape(1, channels, 1)
        for tap in range(3):
            total = total + ops.matmul(taps[:, :, tap], around[tap : tap + count])
        return total.reshape(frames.shape)


def _normalised(frames: Tensor, norm: GroupNorm) -> Tensor:
    """Group normalisation over all frames together, then SiLU."""
    count, channels, height, width = frames.shape
    together = frames.swapaxes(0, 1).reshape(1, channels, count * height, width)
    normal = ops.silu(ops.group_norm(together, GROUPS, norm.weight, norm.bias, EPSILON))
    return normal.reshape(channels, count, height, width).swapaxes(0, 1)


def _each(layers: Sequence[nn.Cell], frames: list[Array]) -> None:
    """Apply layers to each frame separately, in place."""
    for place in range(len(frames)):
        part = frames[place] if kernels_available() else Tensor(frames[place])
        for layer in layers:
            part = layer(part)
        frames[place] = np.ascontiguousarray(part)
