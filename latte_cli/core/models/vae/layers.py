"""Layers of Stable Diffusion's autoencoder (Rombach et al. 2022), on images (N, C, H, W).

Parameters have diffusers' names within each layer.
"""

import math
from itertools import pairwise

import mindspore as ms
from mindspore import Tensor, nn, ops

from latte_cli.core.kernels import operators as kernels
from latte_cli.core.models.vae.convolution import compiled, conv2d, double, group_norm, pad_end
from latte_cli.core.models.weights import zeros

EPSILON = 1e-6  # of all normalisations
SCORES_AT_ONCE = 1 << 22  # attention scores in memory at a time


class Convolution(nn.Cell):
    """A convolution with odd kernel size and zero padding that keeps H and W; `halves`: with stride 2."""

    def __init__(self, inputs: int, outputs: int, *, size: int = 3, halves: bool = False):
        super().__init__()
        self.weight = zeros(outputs, inputs, size, size)
        self.bias = zeros(outputs)
        self.halves = halves
        self.padding = 0 if halves else size // 2

    def construct(self, images: Tensor) -> Tensor:
        if self.halves:  # padded only below and to the right, as in the original
            return conv2d(pad_end(images), self.weight, self.bias, stride=2)
        return conv2d(images, self.weight, self.bias, padding=self.padding)


class GroupNorm(nn.Cell):
    """Group normalisation with scale and shift per channel, optionally followed by SiLU."""

    def __init__(self, channels: int, groups: int, *, silu: bool):
        super().__init__()
        self.weight = zeros(channels)
        self.bias = zeros(channels)
        self.groups = groups
        self.silu = silu

    def construct(self, images: Tensor) -> Tensor:
        return group_norm(images, self.groups, self.weight, self.bias, EPSILON, silu=self.silu)


class Linear(nn.Cell):
    """weight @ pixel + bias for every pixel of images (N, inputs, H, W); returns (N, outputs, H, W).

    In a product with all pixels as rows, the last few rows would be rounded differently on a CPU, so that a
    frame's latents would depend on its position in the batch.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = zeros(outputs, inputs)
        self.bias = zeros(outputs)

    def construct(self, images: Tensor) -> Tensor:
        weight = kernels.like(self.weight, images, self.weight.dtype)
        return conv2d(images, weight.reshape((*weight.shape, 1, 1)), self.bias)


class ResidualBlock(nn.Cell):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1 convolution of x if the channels change."""

    def __init__(self, inputs: int, outputs: int, groups: int):
        super().__init__()
        self.norm1 = GroupNorm(inputs, groups, silu=True)
        self.conv1 = Convolution(inputs, outputs)
        self.norm2 = GroupNorm(outputs, groups, silu=True)
        self.conv2 = Convolution(outputs, outputs)
        self.conv_shortcut = None if inputs == outputs else Convolution(inputs, outputs, size=1)

    def construct(self, images: Tensor) -> Tensor:
        change = self.conv2(self.norm2(self.conv1(self.norm1(images))))
        return (images if self.conv_shortcut is None else self.conv_shortcut(images)) + change


class Attention(nn.Cell):
    """x plus self-attention over its pixels, with one head as wide as the channels."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.group_norm = GroupNorm(width, groups, silu=False)
        self.to_q = Linear(width, width)
        self.to_k = Linear(width, width)
        self.to_v = Linear(width, width)
        self.to_out = nn.CellList([Linear(width, width)])

    def construct(self, images: Tensor) -> Tensor:
        number, width, height, breadth = images.shape
        normed, flat = self.group_norm(images), (number, width, height * breadth)
        queries, keys, values = (
            to(normed).reshape(flat).swapaxes(1, 2) for to in (self.to_q, self.to_k, self.to_v)
        )
        if compiled():
            mixed = kernels.attention(kernels.concat((queries, keys, values), -1), 1, 1, "space")
        else:
            mixed = _attend(queries, keys, values)
        return images + self.to_out[0](mixed.swapaxes(1, 2).reshape(images.shape))


class Middle(nn.Cell):
    """Two residual blocks, optionally with attention in between."""

    def __init__(self, width: int, groups: int, *, attends: bool):
        super().__init__()
        self.resnets = nn.CellList([ResidualBlock(width, width, groups) for _ in range(2)])
        self.attentions = nn.CellList([Attention(width, groups)] if attends else [])

    def construct(self, images: Tensor) -> Tensor:
        images = self.resnets[0](images)
        for attention in self.attentions:
            images = attention(images)
        return self.resnets[1](images)


class Downsample(nn.Cell):
    """A convolution that halves H and W."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = Convolution(width, width, halves=True)

    def construct(self, images: Tensor) -> Tensor:
        return self.conv(images)


class Upsample(nn.Cell):
    """Nearest-neighbour upsampling, then a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = Convolution(width, width)

    def construct(self, images: Tensor) -> Tensor:
        return self.conv(double(images))


class Stage(nn.Cell):
    """Residual blocks, then, except in the last stage, a change of resolution: "down" or "up"."""

    def __init__(self, inputs: int, outputs: int, layers: int, groups: int, *, resample: str | None):
        super().__init__()
        widths = [inputs] + [outputs] * layers
        self.resnets = nn.CellList(
            [ResidualBlock(before, after, groups) for before, after in pairwise(widths)]
        )
        self.downsamplers = nn.CellList([Downsample(outputs)] if resample == "down" else [])
        self.upsamplers = nn.CellList([Upsample(outputs)] if resample == "up" else [])

    def construct(self, images: Tensor) -> Tensor:
        for block in self.resnets:
            images = block(images)
        for resampler in self.downsamplers:
            images = resampler(images)
        for resampler in self.upsamplers:
            images = resampler(images)
        return images


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention with MindSpore's operators; inputs (N, pixels, C), softmax in float32."""
    number, pixels, width = queries.shape
    mixed = []
    for rows in ops.split(queries * (1 / math.sqrt(width)), queries_at_once(number, pixels), 1):
        scores = ops.BatchMatMul(transpose_b=True)(rows, keys)
        weights = ops.softmax(scores.astype(ms.float32), -1).astype(values.dtype)
        mixed.append(ops.BatchMatMul()(weights, values))
    return mixed[0] if len(mixed) == 1 else ops.concat(mixed, 1)


def queries_at_once(number: int, pixels: int) -> int:
    """Query pixels whose scores are in memory at a time; all scores grow with the size's fourth power."""
    most = max(1, SCORES_AT_ONCE // (number * pixels))
    return pixels if most >= pixels else 1 << (most.bit_length() - 1)
