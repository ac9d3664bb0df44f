"""The text-to-video transformer's layers. Tokens are always laid out as (B, F * T, D), frame by frame.

Parameter names are those of diffusers, so its checkpoints need no mapping.
"""

from typing import NamedTuple, TypeAlias

import mindspore as ms
from mindspore import Tensor, nn

from latte_cli.core.kernels import operators as kernels
from latte_cli.core.models.weights import zeros

Text: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Inputs of a block's cross-attention: the score bias (B, N), and the keys and values of `read`."""
MASKED = -10000.0  # added to the score of padding, as in the original; fits float16


class Precision(NamedTuple):
    """Types of parameters and of matrix products."""

    stored: ms.Type = ms.float32
    products: ms.Type = ms.float32


class Projection(nn.Cell):
    """x @ weight.T + bias; with LoRA, the product of `lora_B` and `lora_A` is added to the weight.

    x: (..., inputs); returns (..., outputs) in the products' type.
    """

    def __init__(self, inputs: int, outputs: int, precision: Precision, *, bias: bool = True):
        super().__init__()
        self.weight = zeros(outputs, inputs, dtype=precision.stored)
        self.bias = zeros(outputs, dtype=precision.stored) if bias else None
        self.products = precision.products
        self.lora_scale = 0.0

    def construct(self, x: Tensor) -> Tensor:
        return project(x, self.matrix(x), self.offset(x))

    def matrix(self, x: Tensor) -> Tensor:
        """The weight, (outputs, inputs), in the products' type, as the same kind of array as x."""
        weight = kernels.like(self.weight, x, self.products)
        if self.lora_scale != 0.0:  # Hu et al. 2021, eq. 3
            factors = kernels.like(self.lora_B.weight, x), kernels.like(self.lora_A.weight, x)
            change = kernels.product(factors[0], factors[1].swapaxes(0, 1)) * self.lora_scale
            weight = weight + kernels.like(change, x, self.products)
        return weight

    def offset(self, x: Tensor) -> Tensor:
        """The bias, or zeros, (outputs,) in the products' type."""
        if self.bias is None:
            return kernels.zeros(self.weight.shape[0], x, self.products)
        return kernels.like(self.bias, x, self.products)

    def without_bias(self, x: Tensor) -> Tensor:
        """The product without the bias, for kernels that fuse it."""
        return kernels.product(x, self.matrix(x), dtype=self.products)


class SelfAttention(nn.Cell):
    """Attention within each frame ("space") or over the frames ("time").

    `flash_attention` is for Ascend, with 16-bit products.
    """

    flash_attention = False

    def __init__(self, width: int, num_heads: int, precision: Precision, *, axis: str, bias: bool):
        super().__init__()
        self.to_q = Projection(width, width, precision, bias=bias)
        self.to_k = Projection(width, width, precision, bias=bias)
        self.to_v = Projection(width, width, precision, bias=bias)
        self.to_out = nn.CellList([Projection(width, width, precision)])
        self.num_heads, self.axis = num_heads, axis

    def construct(self, x: Tensor, num_frames: int) -> Tensor:
        """x: (B, num_frames * T, D); the output projection's bias is added by the caller."""
        matrix = kernels.concat((self.to_q.matrix(x), self.to_k.matrix(x), self.to_v.matrix(x)), 0)
        offset = kernels.concat((self.to_q.offset(x), self.to_k.offset(x), self.to_v.offset(x)), 0)
        qkv, flash = project(x, matrix, offset), self.flash_attention
        mixed = kernels.attention(qkv, self.num_heads, num_frames, self.axis, flash_attention=flash)
        return self.to_out[0].without_bias(mixed)


class TextAttention(nn.Cell):
    """Cross-attention of every token to the text of its clip; `flash_attention` as in `SelfAttention`."""

    flash_attention = False

    def __init__(self, width: int, num_heads: int, precision: Precision, *, bias: bool):
        super().__init__()
        self.to_q = Projection(width, width, precision, bias=bias)
        self.to_k = Projection(width, width, precision, bias=bias)
        self.to_v = Projection(width, width, precision, bias=bias)
        self.to_out = nn.CellList([Projection(width, width, precision)])
        self.num_heads = num_heads

    def read(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Text states (B, N, D) to keys and values of their shape."""
        return self.to_k(states), self.to_v(states)

    def construct(self, x: Tensor, score_bias: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """x: (B, M, D); score_bias: (B, N), added to the scores of text tokens; key, value: from `read`."""
        mixed = kernels.text_attention(
            self.to_q(x), key, value, score_bias, self.num_heads, flash_attention=self.flash_attention
        )
        return self.to_out[0](mixed)


class FeedForward(nn.Cell):
    """Two projections with tanh GELU in between; the second bias is added by the caller."""

    def __init__(self, width: int, hidden: int, precision: Precision):
        super().__init__()
        first = nn.Cell()
        first.proj = Projection(width, hidden, precision)
        # net.1 is the original's dropout, which has no parameters.
        self.net = nn.CellList([first, nn.Identity(), Projection(hidden, width, precision)])

    def construct(self, x: Tensor) -> Tensor:
        first, last = self.net[0].proj, self.net[2]
        return last.without_bias(kernels.bias_gelu_tanh(first.without_bias(x), first.offset(x)))


class ModulatedBlock(nn.Cell):
    """The common part of spatial and temporal blocks: self-attention along an axis, and the feed-forward."""

    def __init__(self, width: int, num_heads: int, precision: Precision, *, axis: str, bias: bool):
        super().__init__()
        self.attn1 = SelfAttention(width, num_heads, precision, axis=axis, bias=bias)
        self.ff = FeedForward(width, 4 * width, precision)
        self.scale_shift_table = zeros(6, width, dtype=precision.stored)

    def modulation(self, timestep: Tensor) -> tuple[Tensor, ...]:
        """Split timestep vectors (B, 6 * D) into six (B, D): adaLN-single (Chen et al. 2023)."""
        spread = kernels.add_spread(timestep, self.scale_shift_table, (1, timestep.shape[1]))
        return kernels.split(spread, 6)

    def attend_to_self(self, x: Tensor, parts: tuple[Tensor, ...], num_frames: int) -> Tensor:
        """x (B, num_frames * T, D) after self-attention along the block's axis."""
        mixed = self.attn1(kernels.modulated_layer_norm(x, parts[0], parts[1]), num_frames)
        return kernels.gated_residual(x, parts[2], mixed, self.attn1.to_out[0].offset(x))

    def feed_forward(self, x: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
        """x (B, N, D) after the feed-forward."""
        mixed = self.ff(kernels.modulated_layer_norm(x, parts[3], parts[4]))
        return kernels.gated_residual(x, parts[5], mixed, self.ff.net[2].offset(x))


class TimeBlock(ModulatedBlock):
    """A temporal block."""

    def __init__(self, width: int, num_heads: int, precision: Precision, *, bias: bool):
        super().__init__(width, num_heads, precision, axis="time", bias=bias)

    def construct(self, x: Tensor, timestep: Tensor, num_frames: int) -> Tensor:
        """x: (B, num_frames * T, D); timestep: (B, 6 * D)."""
        parts = self.modulation(timestep)
        return self.feed_forward(self.attend_to_self(x, parts, num_frames), parts)


class TextBlock(ModulatedBlock):
    """A spatial block, with cross-attention of a clip's frames to its text and of each image to its own."""

    def __init__(self, width: int, num_heads: int, precision: Precision, *, bias: bool):
        super().__init__(width, num_heads, precision, axis="space", bias=bias)
        self.attn2 = TextAttention(width, num_heads, precision, bias=bias)

    def construct(self, x: Tensor, timestep: Tensor, frames: tuple[int, int], *texts: Text) -> Tensor:
        """x: (B, F * T, D); frames: F, and the number of these that are the clip's; timestep: (B, 6 * D).

        texts: of the clips, and of the B * I images if each clip is followed by I images.
        """
        parts = self.modulation(timestep)
        x = self.attend_to_self(x, parts, frames[0])
        return self.feed_forward(x + self.attend_to_text(x, frames, *texts), parts)

    def attend_to_text(self, x: Tensor, frames: tuple[int, int], *texts: Text) -> Tensor:
        """The result of cross-attention, to be added to x."""
        if len(texts) == 1:
            return kernels.like(self.attn2(x, *texts[0]), x)
        clips, number, width = x.shape
        of_frame = number // frames[0]
        clip = frames[1] * of_frame
        moving = self.attn2(x[:, :clip], *texts[0])
        images = x[:, clip:].reshape(-1, of_frame, width)
        still = self.attn2(images, *texts[1])
        both = kernels.concat((moving, still.reshape(clips, -1, width)), 1)
        return kernels.like(both, x)


def project(x: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """x (..., inputs) @ matrix.T + offset, in the type of `matrix`."""
    return kernels.linear(x, matrix, offset, dtype=matrix.dtype)
