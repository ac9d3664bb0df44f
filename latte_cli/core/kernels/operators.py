"""The model's arithmetic apart from its matrix products, at home in `ms.jit`, pynative and their gradients.

On a CPU each function is one pass of compiled C++ (fused.py; built on first use), elsewhere MindSpore's
operators (plain.py). Both work in float32 and return the type they are given: `selection.kernels_available`.
Ascend has an attention of its own (flash.py).
"""

import mindspore as ms
from mindspore import Tensor, ops

from latte_cli.core.kernels import flash, fused, plain, products
from latte_cli.core.kernels.selection import use_fused


def modulated_layer_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise over the last axis (eps 1e-6), then times 1 + scale, plus shift: adaLN (Peebles & Xie 2023).

    x: (B, N, D); shift, scale: (B, D). Returns (B, N, D).
    """
    if use_fused():
        wide = x.astype(ms.float32)
        return fused.layer_norm()(wide, shift.astype(ms.float32), scale.astype(ms.float32)).astype(x.dtype)
    return plain.modulated_layer_norm(x, shift, scale)


def gated_residual(x: Tensor, gate: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
    """Give x + gate * (y + bias), `bias` being that of the projection that made y: fused, it costs nothing.

    x, y: (B, N, D); gate: (B, D); bias: (D). Returns (B, N, D) in x's type.
    """
    if use_fused():
        offset = fused.zeros(x.shape[2]) if bias is None else bias.astype(ms.float32)
        wide, branch = x.astype(ms.float32), y.astype(ms.float32)
        return fused.gated_residual()(wide, gate.astype(ms.float32), branch, offset).astype(x.dtype)
    return plain.gated_residual(x, gate, y if bias is None else plain.add_bias(y, bias))


def gelu_tanh(x: Tensor) -> Tensor:
    """Give GELU in its tanh form: x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). x: (..., D)."""
    if use_fused():
        return fused.bias_gelu()(x.astype(ms.float32), fused.zeros(x.shape[-1])).astype(x.dtype)
    return plain.gelu_tanh(x)


def bias_gelu_tanh(x: Tensor, bias: Tensor) -> Tensor:
    """Give gelu_tanh(x + bias), in one pass. x: (..., D); bias: (D)."""
    if use_fused():
        return fused.bias_gelu()(x.astype(ms.float32), bias.astype(ms.float32)).astype(x.dtype)
    return plain.gelu_tanh(plain.add_bias(x, bias))


def silu(x: Tensor) -> Tensor:
    """Give x sigmoid(x). x: (..., D)."""
    return fused.silu()(x.astype(ms.float32)).astype(x.dtype) if use_fused() else ops.silu(x)


def softmax(x: Tensor) -> Tensor:
    """Give the softmax over the last axis. x: (..., N)."""
    wide = x.astype(ms.float32)
    return (fused.softmax()(wide) if use_fused() else plain.softmax(wide)).astype(x.dtype)


def add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """Give x + bias, and the bias's gradient in one pass. x: (..., D); bias: (D)."""
    if use_fused():
        return fused.add_bias()(x.astype(ms.float32), bias.astype(ms.float32)).astype(x.dtype)
    return plain.add_bias(x, bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Give x @ weight.T + bias in x's type. x: (..., inputs); weight: (outputs, inputs); bias: (outputs)."""
    return add_bias(_product(x, weight), bias).reshape(*x.shape[:-1], weight.shape[0])


def norm_linear(
    x: Tensor, shift: Tensor, scale: Tensor, weight: Tensor, *, dtype: ms.Type, frugal: bool = True
) -> Tensor:
    """Give modulated_layer_norm(x, shift, scale) @ weight.T, multiplied in `dtype`.

    x: (B, N, D); shift, scale: (B, D); weight: (outputs, D). Returns (B, N, outputs) in `dtype`. `frugal`:
    where the kernels can, the gradient keeps x alone; a cell that is recomputed cannot have that too.
    """
    size = (*x.shape[:-1], weight.shape[0])
    if frugal and dtype == ms.float32 and use_fused():
        return products.norm_linear(x, shift, scale, weight).reshape(size)
    return _product(modulated_layer_norm(x, shift, scale).astype(dtype), weight).reshape(size)


def gelu_linear(x: Tensor, bias: Tensor, weight: Tensor, *, dtype: ms.Type, frugal: bool = True) -> Tensor:
    """Give gelu_tanh(x + bias) @ weight.T, multiplied in `dtype`; `frugal` as in `norm_linear`.

    x: (..., D); bias: (D); weight: (outputs, D). Returns (..., outputs) in `dtype`.
    """
    size = (*x.shape[:-1], weight.shape[0])
    if frugal and dtype == ms.float32 and use_fused():
        return products.gelu_linear(x, bias, weight).reshape(size)
    return _product(bias_gelu_tanh(x, bias).astype(dtype), weight).reshape(size)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    return ops.MatMul(transpose_b=True)(x.reshape(-1, x.shape[-1]), weight.astype(x.dtype))


def attention(
    qkv: Tensor,
    num_heads: int,
    num_frames: int,
    axis: str,
    *,
    bias: Tensor | None = None,
    flash_attention: bool = False,
) -> Tensor:
    """Attend within each frame (`axis` "space") or each token's course over the frames ("time"), per head.

    qkv: (B, num_frames * T, 3 * D), ordered (3, heads, head_dim) as in timm; `bias` (3 * D) is yet to be
    added to it; scale 1 / sqrt(head_dim). Returns (B, num_frames * T, D). Its gradient keeps nothing but qkv.
    flash_attention: by Ascend's operator (flash.py).
    """
    if flash_attention:
        return flash.attention(qkv if bias is None else add_bias(qkv, bias), num_heads, num_frames, axis)
    if use_fused():
        offset = fused.zeros(qkv.shape[2]) if bias is None else bias.astype(ms.float32)
        facts = fused.attention_facts(num_heads, num_frames, axis)
        return fused.attention()(qkv.astype(ms.float32), offset, facts).astype(qkv.dtype)
    biased = qkv if bias is None else plain.add_bias(qkv, bias)
    return plain.attention(biased, num_heads, num_frames, axis)
