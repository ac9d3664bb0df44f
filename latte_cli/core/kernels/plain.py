"""The operators with MindSpore's own: for any device and float type, without a compiler; slower on a CPU."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

LAYER_NORM_EPS = 1e-6
GELU_A = float(2 * np.sqrt(2 / np.pi))  # twice that of Hendrycks & Gimpel 2016: tanh(u) = 2 sigmoid(2u) - 1
GELU_B = 0.044715


def modulated_layer_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """See `operators.modulated_layer_norm`."""
    width = (x.shape[2],)
    wide = x.astype(ms.float32)
    ones, zeros = ops.ones(width, ms.float32), ops.zeros(width, ms.float32)
    normal, _, _ = ops.LayerNorm(-1, -1, LAYER_NORM_EPS)(wide, ones, zeros)
    return (normal * _spread(scale + 1, x) + _spread(shift, x)).astype(x.dtype)


def gated_residual(x: Tensor, gate: Tensor, y: Tensor) -> Tensor:
    """See `operators.gated_residual`."""
    return x + _spread(gate, x) * y.astype(x.dtype)


def gelu_tanh(x: Tensor) -> Tensor:
    """See `operators.gelu_tanh`; MindSpore's own is ten times as slow on a CPU."""
    wide = x.astype(ms.float32)
    return (wide * ops.sigmoid(GELU_A * wide * (1 + GELU_B * wide * wide))).astype(x.dtype)


def softmax(x: Tensor) -> Tensor:
    """See `operators.softmax`."""
    # In pynative mode MindSpore's gradient is wrong for rows of one element, whose softmax is 1.
    return ops.ones_like(x) if x.shape[-1] == 1 else ops.softmax(x, -1)


def attention(qkv: Tensor, num_heads: int, num_frames: int, axis: str) -> Tensor:
    """See `operators.attention`; softmax in float32."""
    clips, number, channels = qkv.shape
    tokens, width = number // num_frames, channels // 3
    head_dim = width // num_heads
    length = tokens if axis == "space" else num_frames
    if length == 1:
        return qkv[:, :, 2 * width :]
    parts = qkv.reshape(clips, num_frames, tokens, 3, num_heads, head_dim)
    order = (3, 0, 1, 4, 2, 5) if axis == "space" else (3, 0, 2, 4, 1, 5)
    apart = parts.transpose(order).reshape(3, -1, length, head_dim)
    query, key, value = apart[0], apart[1], apart[2]
    scores = ops.BatchMatMul(transpose_b=True)(query * head_dim**-0.5, key)
    weights = softmax(scores.astype(ms.float32)).astype(qkv.dtype)
    mixed = ops.BatchMatMul()(weights, value).reshape(clips, -1, num_heads, length, head_dim)
    back = (0, 1, 3, 2, 4) if axis == "space" else (0, 3, 1, 2, 4)
    return mixed.transpose(back).reshape(clips, number, width)


def add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """x (..., D) + bias (D) in x's type."""
    rows = ops.BiasAdd()(x.reshape(-1, x.shape[-1]), bias.astype(x.dtype))
    return rows.reshape(x.shape)


def _spread(vector: Tensor, x: Tensor) -> Tensor:
    # Implicit broadcasting is several times as slow as broadcast_to on a CPU.
    return ops.broadcast_to(ops.expand_dims(vector.astype(x.dtype), 1), x.shape)
