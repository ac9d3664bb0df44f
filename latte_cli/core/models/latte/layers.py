"""Latte's layers. Tokens are always laid out as (B, F * T, D), with the T tokens of a frame contiguous."""

import mindspore as ms
from mindspore import Tensor, nn, ops

from latte_cli.core.checkpoints.layouts.matching import TIMESTEP_CHANNELS
from latte_cli.core.kernels import operators as kernels
from latte_cli.core.models.positions import timestep_table
from latte_cli.core.models.weights import zeros


class Linear(nn.Cell):
    """x @ weight.T + bias in `dtype`; parameters stay float32. x: (..., inputs); returns (..., outputs)."""

    def __init__(self, inputs: int, outputs: int, dtype: ms.Type = ms.float32):
        super().__init__()
        self.weight = zeros(outputs, inputs)
        self.bias = zeros(outputs)
        self.dtype = dtype

    def construct(self, x: Tensor) -> Tensor:
        return kernels.linear(x, self.weight, self.bias, dtype=self.dtype)

    def product(self, x: Tensor) -> Tensor:
        """x @ weight.T without the bias, for callers that fuse it."""
        return kernels.product(x, self.weight, dtype=self.dtype)


class Silu(nn.Cell):
    """x sigmoid(x)."""

    def construct(self, x: Tensor) -> Tensor:
        return kernels.silu(x)


class PatchEmbedder(nn.Cell):
    """Project patches of latents (N, C, h, w) to tokens (N, T, D), by a convolution or a matrix product.

    Both use the convolution's weight (D, C, patch, patch) and compute the same function.
    """

    def __init__(self, channels: int, width: int, patch_size: int, kind: str):
        super().__init__()
        self.proj = nn.Cell()
        self.proj.weight = zeros(width, channels, patch_size, patch_size)
        self.proj.bias = zeros(width)
        self.patch_size = patch_size
        self.width = width
        # On a CPU a plain convolution takes 100 times as long as the product (see convolution.py).
        self.as_convolution = kind == "conv" and ms.get_context("device_target") != "CPU"
        self.convolution = ops.Conv2D(width, patch_size, pad_mode="valid", stride=patch_size)

    def construct(self, latents: Tensor) -> Tensor:
        number, channels, height, width = latents.shape
        patch = self.patch_size
        if self.as_convolution:
            grid = self.convolution(latents, self.proj.weight).reshape(number, self.width, -1)
            tokens = kernels.add_bias(grid.swapaxes(1, 2).reshape(-1, self.width), self.proj.bias)
        else:
            patches = latents.reshape(number, channels, height // patch, patch, width // patch, patch)
            patches = patches.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels * patch * patch)
            weight = kernels.like(self.proj.weight, latents).reshape(self.width, -1)
            tokens = kernels.linear(patches, weight, self.proj.bias)
        return tokens.reshape(number, -1, self.width)


class TimestepEmbedder(nn.Cell):
    """Map sinusoids (B, 256) of timesteps to conditioning (B, D)."""

    def __init__(self, width: int, num_timesteps: int):
        super().__init__()
        self.table = Tensor(timestep_table(TIMESTEP_CHANNELS, num_timesteps))
        self.mlp = nn.SequentialCell(Linear(TIMESTEP_CHANNELS, width), Silu(), Linear(width, width))

    def sinusoids(self, timesteps: Tensor) -> Tensor:
        """`timestep_rows` of integer timesteps (B,)."""
        return ops.gather(self.table, timesteps, 0)

    def construct(self, sinusoids: Tensor) -> Tensor:
        return self.mlp(sinusoids)


class LabelEmbedder(nn.Cell):
    """Map class labels (B,) int, with `num_classes` for "no condition", to conditioning (B, D)."""

    def __init__(self, num_classes: int, width: int):
        super().__init__()
        self.embedding_table = nn.Cell()
        self.embedding_table.weight = zeros(num_classes + 1, width)

    def construct(self, class_labels: Tensor) -> Tensor:
        return kernels.rows(self.embedding_table.weight, class_labels)


class Attention(nn.Cell):
    """Multi-head self-attention within each frame ("space") or over the frames ("time").

    Its input is the product of (B, F * T, D) with `qkv.weight`, without the bias; the bias of `proj` is added
    with the residual. `tokens` is the number per frame; spatial attention accepts any number of frames.
    `flash_attention` is for Ascend, with a 16-bit `dtype`.
    """

    flash_attention = False

    def __init__(self, width: int, num_heads: int, *, tokens: int, axis: str, dtype: ms.Type):
        super().__init__()
        self.qkv = Linear(width, 3 * width, dtype)
        self.proj = Linear(width, width, dtype)
        self.num_heads, self.tokens, self.axis = num_heads, tokens, axis

    def construct(self, qkv: Tensor) -> Tensor:
        sizes = self.num_heads, qkv.shape[1] // self.tokens, self.axis
        bias, flash = self.qkv.bias, self.flash_attention
        return self.proj.product(kernels.attention(qkv, *sizes, bias=bias, flash_attention=flash))


class Mlp(nn.Cell):
    """MLP after the product with `fc1.weight`: bias, tanh GELU, product with `fc2.weight`.

    The bias of `fc2` is added with the residual.
    """

    def __init__(self, width: int, hidden: int, *, dtype: ms.Type):
        super().__init__()
        self.fc1 = Linear(width, hidden, dtype)
        self.fc2 = Linear(hidden, width, dtype)
        self.frugal = True

    def construct(self, hidden: Tensor) -> Tensor:
        how = {"dtype": self.fc2.dtype, "frugal": self.frugal}
        return kernels.gelu_linear(hidden, self.fc1.bias, self.fc2.weight, **how)


class Modulation(nn.SequentialCell):
    """Map conditioning (B, D) to `parts` vectors per sample, (B, parts * D): adaLN (Peebles & Xie 2023)."""

    def __init__(self, width: int, parts: int):
        super().__init__(Silu(), Linear(width, parts * width))


class Block(nn.Cell):
    """A transformer block over one axis; its conditioning is computed once per sample."""

    def __init__(self, width: int, num_heads: int, mlp_width: int, *, tokens: int, axis: str, dtype: ms.Type):
        super().__init__()
        self.attn = Attention(width, num_heads, tokens=tokens, axis=axis, dtype=dtype)
        self.mlp = Mlp(width, mlp_width, dtype=dtype)
        self.adaLN_modulation = Modulation(width, 6)
        self.dtype, self.frugal = dtype, True

    def recompute(self, **mode: bool) -> None:
        """Recompute the complete block in the backward pass; MindSpore cannot nest recomputation."""
        self.frugal = self.mlp.frugal = False
        super().recompute(**mode)

    def construct(self, x: Tensor, conditioning: Tensor) -> Tensor:
        parts = kernels.split(self.adaLN_modulation(conditioning), 6)
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = parts
        how = {"dtype": self.dtype, "frugal": self.frugal}
        branch = self.attn(kernels.norm_linear(x, shift_attn, scale_attn, self.attn.qkv.weight, **how))
        x = kernels.gated_residual(x, gate_attn, branch, self.attn.proj.bias)
        branch = self.mlp(kernels.norm_linear(x, shift_mlp, scale_mlp, self.mlp.fc1.weight, **how))
        return kernels.gated_residual(x, gate_mlp, branch, self.mlp.fc2.bias)


class FinalLayer(nn.Cell):
    """Map tokens (B, N, D) to patches (B, N, outputs)."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.linear = Linear(width, outputs)
        self.adaLN_modulation = Modulation(width, 2)

    def construct(self, x: Tensor, conditioning: Tensor) -> Tensor:
        shift, scale = kernels.split(self.adaLN_modulation(conditioning), 2)
        return self.linear(kernels.modulated_layer_norm(x, shift, scale))
