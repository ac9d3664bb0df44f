"""The model's operators, for `ms.jit` and pynative mode, with gradients.

On a CPU each function is one pass of compiled C++ (fused.py; built on first use), elsewhere MindSpore's
operators (plain.py), see `selection.kernels_available`. Both compute in float32 and return the input type.
Ascend has a separate attention (flash.py). Given NumPy arrays instead of tensors, a function calls the
compiled C++ directly (host.py), only on a CPU and without gradients.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from latte_cli.core.kernels import flash, fused, host, plain, products
from latte_cli.core.kernels.selection import use_fused


def modulated_layer_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise over the last axis (eps 1e-6), then times 1 + scale, plus shift: adaLN (Peebles & Xie 2023).

    x: (B, N, D); shift, scale: (B, D). Returns (B, N, D).
    """
    if not isinstance(x, Tensor):
        return host.layer_norm(x, shift, scale)
    if use_fused():
        wide = x.astype(ms.float32)
        return fused.layer_norm()(wide, shift.astype(ms.float32), scale.astype(ms.float32)).astype(x.dtype)
    return plain.modulated_layer_norm(x, shift, scale)


def gated_residual(x: Tensor, gate: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x + gate * (y + bias); `bias` belongs to the projection that computed y and is fused here.

    x, y: (B, N, D); gate: (B, D); bias: (D). Returns (B, N, D) in x's type.
    """
    if not isinstance(x, Tensor):
        return host.gated_residual(x, gate, y, bias)
    if use_fused():
        offset = fused.zeros(x.shape[2]) if bias is None else bias.astype(ms.float32)
        wide, branch = x.astype(ms.float32), y.astype(ms.float32)
        return fused.gated_residual()(wide, gate.astype(ms.float32), branch, offset).astype(x.dtype)
    return plain.gated_residual(x, gate, y if bias is None else plain.add_bias(y, bias))


def gelu_tanh(x: Tensor) -> Tensor:
    """Compute GELU (tanh form): x / 2 * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). x: (..., D)."""
    if not isinstance(x, Tensor):
        return host.bias_gelu(x, host.zeros(x.shape[-1]))
    if use_fused():
        return fused.bias_gelu()(x.astype(ms.float32), fused.zeros(x.shape[-1])).astype(x.dtype)
    return plain.gelu_tanh(x)


def bias_gelu_tanh(x: Tensor, bias: Tensor) -> Tensor:
    """Compute gelu_tanh(x + bias) in one pass. x: (..., D); bias: (D)."""
    if not isinstance(x, Tensor):
        return host.bias_gelu(x, bias)
    if use_fused():
        return fused.bias_gelu()(x.astype(ms.float32), bias.astype(ms.float32)).astype(x.dtype)
    return plain.gelu_tanh(plain.add_bias(x, bias))


def silu(x: Tensor) -> Tensor:
    """Compute x sigmoid(x). x: (..., D)."""
    if not isinstance(x, Tensor):
        return host.silu(x)
    return fused.silu()(x.astype(ms.float32)).astype(x.dtype) if use_fused() else ops.silu(x)


def softmax(x: Tensor) -> Tensor:
    """Compute the softmax over the last axis. x: (..., N)."""
    if not isinstance(x, Tensor):
        return host.softmax(x)
    wide = x.astype(ms.float32)
    return (fused.softmax()(wide) if use_fused() else plain.softmax(wide)).astype(x.dtype)


def add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """Compute x + bias, and the bias's gradient in one pass. x: (..., D); bias: (D)."""
    if not isinstance(x, Tensor):
        return host.add_bias(x, bias)
    if use_fused():
        return fused.add_bias()(x.astype(ms.float32), bias.astype(ms.float32)).astype(x.dtype)
    return plain.add_bias(x, bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor, *, dtype: ms.Type = ms.float32) -> Tensor:
    """Compute product(x, weight) + bias. x: (..., inputs); weight: (outputs, inputs); bias: (outputs)."""
    if not isinstance(x, Tensor):
        return host.linear(x, weight, bias)
    return add_bias(product(x, weight, dtype=dtype), bias)


def product(x: Tensor, weight: Tensor, *, dtype: ms.Type = ms.float32) -> Tensor:
    """Compute x @ weight.T in `dtype`. x: (..., inputs); weight: (outputs, inputs)."""
    if not isinstance(x, Tensor):
        return host.product(x, weight)
    if dtype == ms.float32 and use_fused():
        return fused.product()(x.astype(dtype), weight.astype(dtype))
    rows = x.reshape(-1, x.shape[-1]).astype(dtype)
    return ops.MatMul(transpose_b=True)(rows, weight.astype(dtype)).reshape(*x.shape[:-1], weight.shape[0])


def norm_linear(
    x: Tensor, shift: Tensor, scale: Tensor, weight: Tensor, *, dtype: ms.Type, frugal: bool = True
) -> Tensor:
    """Compute modulated_layer_norm(x, shift, scale) @ weight.T, multiplied in `dtype`.

    x: (B, N, D); shift, scale: (B, D); weight: (outputs, D). Returns (B, N, outputs) in `dtype`. `frugal`:
    with the compiled kernels, store only x for the gradient; cannot be combined with recomputing the
    cell.
    """
    if not isinstance(x, Tensor):
        return host.product(host.layer_norm(x, shift, scale), weight)
    if frugal and dtype == ms.float32 and use_fused():
        return products.norm_linear(x, shift, scale, weight)
    return product(modulated_layer_norm(x, shift, scale), weight, dtype=dtype)


def gelu_linear(x: Tensor, bias: Tensor, weight: Tensor, *, dtype: ms.Type, frugal: bool = True) -> Tensor:
    """Compute gelu_tanh(x + bias) @ weight.T, multiplied in `dtype`; `frugal` as in `norm_linear`.

    x: (..., D); bias: (D); weight: (outputs, D). Returns (..., outputs) in `dtype`.
    """
    if not isinstance(x, Tensor):
        return host.product(host.bias_gelu(x, bias), weight)
    if frugal and dtype == ms.float32 and use_fused():
        return products.gelu_linear(x, bias, weight)
    return product(bias_gelu_tanh(x, bias), weight, dtype=dtype)


def attention(
    qkv: Tensor,
    num_heads: int,
    num_frames: int,
    axis: str,
    *,
    bias: Tensor | None = None,
    flash_attention: bool = False,
) -> Tensor:
    """Multi-head attention within each frame (`axis` "space") or over the frames ("time").

    qkv: (B, num_frames * T, 3 * D), ordered (3, heads, head_dim) as in timm; `bias` (3 * D) is added to it;
    scale 1 / sqrt(head_dim). Returns (B, num_frames * T, D). Only qkv is stored for the gradient.
    flash_attention: use Ascend's operator (flash.py).
    """
    if not isinstance(qkv, Tensor):
        return host.attention(qkv, num_heads, num_frames, axis, bias)
    if flash_attention:
        return flash.attention(qkv if bias is None else add_bias(qkv, bias), num_heads, num_frames, axis)
    if use_fused():
        offset = fused.zeros(qkv.shape[2]) if bias is None else bias.astype(ms.float32)
        facts = fused.attention_facts(num_heads, num_frames, axis)
        return fused.attention()(qkv.astype(ms.float32), offset, facts).astype(qkv.dtype)
    biased = qkv if bias is None else plain.add_bias(qkv, bias)
    return plain.attention(biased, num_heads, num_frames, axis)


def text_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_bias: Tensor,
    num_heads: int,
    *,
    flash_attention: bool = False,
) -> Tensor:
    """Attend from (B, M, D) to a text's (B, N, D), with (B, N) added to scores: (B, M, D), per head.

    Scale 1 / sqrt(head_dim); softmax in float32. flash_attention: use Ascend's operator (flash.py), which
    does not attend to tokens of negative bias at all.
    """
    if not isinstance(query, Tensor):
        return host.text_attention(query, key, value, score_bias, num_heads)
    if flash_attention:
        return flash.text_attention(query, key, value, score_bias < 0.0, num_heads)
    clips, number, width = query.shape
    head_dim = width // num_heads
    query, key, value = [
        one.reshape(clips, -1, num_heads, head_dim).transpose(0, 2, 1, 3) for one in (query, key, value)
    ]
    scores = ops.BatchMatMul(transpose_b=True)(query * head_dim**-0.5, key).astype(ms.float32)
    scores = scores + ops.broadcast_to(score_bias.reshape(clips, 1, 1, -1), scores.shape)
    mixed = ops.BatchMatMul()(softmax(scores).astype(value.dtype), value)
    return mixed.transpose(0, 2, 1, 3).reshape(clips, number, width)


def split(x: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Split (B, parts * D) into parts (B, D)."""
    return ops.chunk(x, parts, 1) if isinstance(x, Tensor) else tuple(np.split(x, parts, 1))


def concat(parts: tuple[Tensor, ...], axis: int) -> Tensor:
    """Concatenate along an axis."""
    return ops.concat(parts, axis) if isinstance(parts[0], Tensor) else np.concatenate(parts, axis)


def rows(table: Tensor, places: Tensor) -> Tensor:
    """Rows (B, D) of a table by indices (B), int."""
    return ops.gather(table, places, 0) if isinstance(places, Tensor) else host.array(table)[places]


def add_spread(x: Tensor, table: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Add a table to x, reshaped to `shape` and broadcast along axes of length 1."""
    if not isinstance(x, Tensor):
        return x + host.array(table).reshape(shape)
    return x + ops.broadcast_to(table.astype(x.dtype).reshape(shape), x.shape)


def like(parameter: Tensor, x: Tensor, dtype: ms.Type = ms.float32) -> Tensor:
    """The parameter in `dtype`, or as an array if x is a NumPy array."""
    return parameter.astype(dtype) if isinstance(x, Tensor) else host.array(parameter)


def zeros(width: int, x: Tensor, dtype: ms.Type = ms.float32) -> Tensor:
    """Zeros (width) in `dtype`, or as an array if x is a NumPy array."""
    return ops.zeros((width,), dtype) if isinstance(x, Tensor) else host.zeros(width)
