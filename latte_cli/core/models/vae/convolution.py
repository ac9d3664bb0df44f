# ruff: noqa: A002, PLR0917  (the functions keep the parameters of mint.nn.functional)
"""The autoencoder's operators on a CPU: compiled kernels if available, else MindSpore's operators.

As in `kernels.operators`, each function accepts tensors, or NumPy arrays for the compiled kernels.

With AVX-512, oneDNN runs a plain convolution on its reference kernel, 100 times slower than a matrix product.
"""

import os
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from latte_cli.core.kernels import host, images
from latte_cli.core.kernels.fused import zeros
from latte_cli.core.kernels.selection import kernels_available

PLAIN_IS_FAST = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in ("SSE41", "AVX", "AVX2")
"""Without AVX-512, oneDNN's convolutions are fast. Read once, as in oneDNN."""

# Executed, not parsed, when a graph is compiled.
compiled: Any = ops.constexpr(kernels_available, reuse_result=False)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlate (N, C, H, W) with (O, C / groups, kh, kw), as `mint.nn.functional.conv2d` does."""
    strides, pads, dilations = _pair(stride), _pair(padding), _pair(dilation)
    kernel = weight.shape[2:]
    if not isinstance(input, Tensor):
        return host.convolve(input, weight, bias, halves=strides == (2, 2))
    if compiled() and groups == 1 and dilations == (1, 1) and input.dtype == ms.float32:
        filled = zeros(weight.shape[0]) if bias is None else bias
        if strides == (1, 1) and kernel == (2 * pads[0] + 1, 2 * pads[1] + 1):
            return images.convolve_same()(input, weight, filled)
        if strides == (2, 2) and pads == (0, 0):
            return images.convolve_halving()(input, weight, filled)
    if PLAIN_IS_FAST or groups != 1 or kernel == (1, 1):
        spread = (pads[0], pads[0], pads[1], pads[1])
        plain = ops.Conv2D(weight.shape[0], kernel, 1, "pad", spread, strides, dilations, groups)
        output = plain(input, weight)
    else:
        output = _as_product(input, weight, strides, pads, dilations)
    return output if bias is None else ops.bias_add(output, bias)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5, *, silu: bool = False
) -> Tensor:
    """Group normalisation of (N, C, H, W) with scale and shift per channel, optionally followed by SiLU."""
    if not isinstance(input, Tensor):
        return host.group_norm(input, num_groups, weight, bias, eps=eps, silu=silu)
    if compiled() and input.ndim == 4 and input.dtype == ms.float32:
        return images.group_norm()(input, weight, bias, images.group_norm_facts(num_groups, eps, silu))
    output = ops.group_norm(input, num_groups, weight, bias, eps)
    return ops.silu(output) if silu else output


def double(input: Tensor) -> Tensor:
    """Upsample (N, C, H, W) to (N, C, 2H, 2W), nearest neighbour."""
    if not isinstance(input, Tensor):
        return host.double(input)
    if compiled() and input.dtype == ms.float32:
        return images.double()(input)
    batch, channels, height, width = input.shape
    apart = input.reshape((batch, channels, height, 1, width, 1))
    return apart.broadcast_to((batch, channels, height, 2, width, 2)).reshape(
        (batch, channels, 2 * height, 2 * width)
    )


def pad_end(input: Tensor) -> Tensor:
    """Add a row of zeros below (N, C, H, W), and a column to the right."""
    ends = ((0, 0), (0, 0), (0, 1), (0, 1))
    return ops.Pad(ends)(input) if isinstance(input, Tensor) else np.pad(input, ends)


def _as_product(input: Tensor, weight: Tensor, strides: Any, pads: Any, dilations: Any) -> Tensor:
    """The convolution as one matrix product (im2col)."""
    batch, _, height, width = input.shape
    out_channels, _, kernel_height, kernel_width = weight.shape
    out_height = (height + 2 * pads[0] - dilations[0] * (kernel_height - 1) - 1) // strides[0] + 1
    out_width = (width + 2 * pads[1] - dilations[1] * (kernel_width - 1) - 1) // strides[1] + 1
    windows = ops.unfold(input, (kernel_height, kernel_width), dilations, pads, strides)
    product = ops.matmul(weight.reshape((out_channels, -1)), windows)
    return product.reshape((batch, out_channels, out_height, out_width))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
