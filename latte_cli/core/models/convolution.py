# ruff: noqa: A002, PLR0917  (conv2d keeps the parameters of mint.nn.functional.conv2d)
"""Convolution on a CPU. At AVX-512, oneDNN runs a plain one on its reference kernel: 100 times slower."""

import os
from typing import Any

from mindspore import Tensor, ops

PLAIN_IS_FAST = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in ("SSE41", "AVX", "AVX2")
"""Below AVX-512 oneDNN convolves by its own products. Read once: oneDNN does so too."""


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
    if PLAIN_IS_FAST or groups != 1 or kernel == (1, 1):
        spread = (pads[0], pads[0], pads[1], pads[1])
        plain = ops.Conv2D(weight.shape[0], kernel, 1, "pad", spread, strides, dilations, groups)
        output = plain(input, weight)
    else:
        output = _as_product(input, weight, strides, pads, dilations)
    return output if bias is None else ops.bias_add(output, bias)


def _as_product(input: Tensor, weight: Tensor, strides: Any, pads: Any, dilations: Any) -> Tensor:
    """The same as one matrix product: every window a column."""
    batch, _, height, width = input.shape
    out_channels, _, kernel_height, kernel_width = weight.shape
    out_height = (height + 2 * pads[0] - dilations[0] * (kernel_height - 1) - 1) // strides[0] + 1
    out_width = (width + 2 * pads[1] - dilations[1] * (kernel_width - 1) - 1) // strides[1] + 1
    windows = ops.unfold(input, (kernel_height, kernel_width), dilations, pads, strides)
    product = ops.matmul(weight.reshape((out_channels, -1)), windows)
    return product.reshape((batch, out_channels, out_height, out_width))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
