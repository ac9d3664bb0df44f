"""The decoder of AutoencoderKLTemporalDecoder, Stable Video Diffusion's (arXiv 2311.15127).

Each block treats frames one by one, as Stable Diffusion's decoder does, then mixes every pixel with the same
one of the frames beside it. Parameter names equal diffusers'.
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
from latte_cli.core.models.vae.layers import Attention, Convolution, GroupNorm, ResidualBlock, Upsample, zeros
from latte_cli.core.models.weights import load_weights

EPSILON = 1e-5  # of the normalisations over frames


class TemporalVae:
    """A temporal decoder with its weights. See autoencoder.Vae."""

    def __init__(self, decoder: "TemporalDecoder", *, scaling_factor: float):
        self.decoder, self.scaling_factor = decoder, scaling_factor

    def decode(self, latents: Array) -> Array:
        """Give the frames (F, 3, 8h, 8w) in [-1, 1], not clipped, of a clip's scaled latents (F, 4, h, w).

        Frames are decoded 14 together, as diffusers' LattePipeline does; the rest of a clip by itself.
        """
        unscaled = np.ascontiguousarray(latents / np.float32(self.scaling_factor), np.float32)
        chunks = [unscaled[first : first + CHUNK] for first in range(0, len(unscaled), CHUNK)]
        return np.concatenate([self.decoder(chunk) for chunk in chunks])


def load_temporal_decoder(folder: Path, *, scaling_factor: float) -> TemporalVae:
    """Build the decoder of a pipeline's vae_temporal_decoder.

    Raises LatteError when its weights are missing, torn or another model's.
    """
    shape, weights = open_temporal_decoder(folder)
    decoder = TemporalDecoder(shape)
    load_weights(decoder, weights, source=str(folder))
    return TemporalVae(decoder, scaling_factor=scaling_factor)


class TemporalDecoder(nn.Cell):
    """Latents of a clip's chunk to its frames; not compiled, as it would hold a whole chunk's values at once.

    Frames lie on the host, one by one, and each layer replaces them: little more than they is ever held.
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
        """Latents of a chunk, (F, 4, h, w), not scaled, to its frames (F, 3, 8h, 8w)."""
        frames = list(np.split(latents, len(latents)))
        _each([self.conv_in], frames)
        for place, block in enumerate(self.mid_block.resnets):
            if place == 1:  # one attention alone, however many blocks there are
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
    """A residual block over each frame, and one over the frames of each pixel, added by a learned share."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.spatial_res_block = ResidualBlock(inputs, outputs, GROUPS)
        self.temporal_res_block = TemporalBlock(outputs)
        mixer = nn.Cell()
        mixer.mix_factor = zeros(1)
        self.time_mixer = mixer

    def apply(self, before: Sequence[nn.Cell], frames: list[Array]) -> None:
        """Replace frames (1, C, H, W) by what the block makes of them, layers `before` it first.

        These come in one go with the block, so that frames of their size are not held of the whole chunk.
        """
        _each([*before, self.spatial_res_block], frames)
        share = 1 / (1 + np.exp(-self.time_mixer.mix_factor.asnumpy().astype(np.float64)))
        self.temporal_res_block.apply(frames, float(share[0]))


class TemporalBlock(nn.Cell):
    """x + share * conv(silu(norm(conv(silu(norm(x)))))), norms over all frames, convolutions over three."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = GroupNorm(width, GROUPS, silu=True), GroupNorm(width, GROUPS, silu=True)
        self.conv1, self.conv2 = TimeConvolution(width), TimeConvolution(width)

    def apply(self, frames: list[Array], share: float) -> None:
        """Change frames (1, C, H, W) by their share."""
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
    """A convolution over three frames, zeros before the first and after the last."""

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
    """Normalised over groups of channels of all frames together, then SiLU."""
    count, channels, height, width = frames.shape
    together = frames.swapaxes(0, 1).reshape(1, channels, count * height, width)
    normal = ops.silu(ops.group_norm(together, GROUPS, norm.weight, norm.bias, EPSILON))
    return normal.reshape(channels, count, height, width).swapaxes(0, 1)


def _each(layers: Sequence[nn.Cell], frames: list[Array]) -> None:
    """Replace frames by what layers make of them that know no other frames, one by one."""
    for place in range(len(frames)):
        part = frames[place] if kernels_available() else Tensor(frames[place])
        for layer in layers:
            part = layer(part)
        frames[place] = np.ascontiguousarray(part)
