"""The formulas in float64 NumPy, and their gradients by hand."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def modulated_layer_norm(x: Array, shift: Array, scale: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return normal * (1 + scale[:, None]) + shift[:, None]


def modulated_layer_norm_grad(x: Array, shift: Array, scale: Array, dout: Array) -> tuple[Array, ...]:
    centred = x - x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    normal, inner = centred * rstd, dout * (1 + scale[:, None])
    along = (inner * normal).mean(-1, keepdims=True)
    dx = rstd * (inner - inner.mean(-1, keepdims=True) - normal * along)
    return dx, dout.sum(1), (dout * normal).sum(1)


def gated_residual(x: Array, gate: Array, y: Array, bias: Array) -> Array:
    return x + gate[:, None] * (y + bias)


def gated_residual_grad(x: Array, gate: Array, y: Array, bias: Array, dout: Array) -> tuple[Array, ...]:
    dy = gate[:, None] * dout
    return dout, (dout * (y + bias)).sum(1), dy, dy.sum((0, 1))


def add_bias(x: Array, bias: Array) -> Array:
    return x + bias


def add_bias_grad(x: Array, bias: Array, dout: Array) -> tuple[Array, ...]:
    return dout, dout.reshape(-1, dout.shape[-1]).sum(0)


def bias_gelu_tanh(x: Array, bias: Array) -> Array:
    z = x + bias
    return z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def bias_gelu_tanh_grad(x: Array, bias: Array, dout: Array) -> tuple[Array, ...]:
    z = x + bias
    a = np.sqrt(2 / np.pi)
    t = np.tanh(a * (z + 0.044715 * z**3))
    dx = dout * ((1 + t) / 2 + z / 2 * (1 - t**2) * a * (1 + 3 * 0.044715 * z**2))
    return dx, dx.reshape(-1, dx.shape[-1]).sum(0)


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def silu_grad(x: Array, dout: Array) -> tuple[Array, ...]:
    share = 1 / (1 + np.exp(-x))
    return (dout * (share + x * share * (1 - share)),)


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def softmax_grad(x: Array, dout: Array) -> tuple[Array, ...]:
    shares = softmax(x)
    return (shares * (dout - (shares * dout).sum(-1, keepdims=True)),)


def _split(qkv: Array, heads: int, frames: int, axis: str) -> Array:
    """(B, N, 3D) to (3, B, F or T, heads, length, head_dim)."""
    batch, number, channels = qkv.shape
    parts = qkv.reshape(batch, frames, number // frames, 3, heads, channels // 3 // heads)
    return parts.transpose((3, 0, 1, 4, 2, 5) if axis == "space" else (3, 0, 2, 4, 1, 5))


def _weights(q: Array, k: Array) -> Array:
    return softmax(np.einsum("...id,...jd->...ij", q, k) / np.sqrt(q.shape[-1]))


def attention(qkv: Array, heads: int, frames: int, axis: str) -> Array:
    q, k, v = _split(qkv, heads, frames, axis)
    mixed = np.einsum("...ij,...jd->...id", _weights(q, k), v)
    mixed = mixed.transpose((0, 1, 3, 2, 4) if axis == "space" else (0, 3, 1, 2, 4))
    return mixed.reshape(*qkv.shape[:2], -1)


def attention_grad(qkv: Array, heads: int, frames: int, axis: str, dout: Array) -> Array:
    q, k, v = _split(qkv, heads, frames, axis)
    # dout has one part where qkv has three: split three copies, keep one.
    do = _split(np.tile(dout, 3), heads, frames, axis)[0]
    p = _weights(q, k)
    dp = np.einsum("...id,...jd->...ij", do, v)
    ds = p * (dp - (p * dp).sum(-1, keepdims=True)) / np.sqrt(q.shape[-1])
    dq, dk = np.einsum("...ij,...jd->...id", ds, k), np.einsum("...ij,...id->...jd", ds, q)
    dv = np.einsum("...ij,...id->...jd", p, do)
    parts = np.stack([dq, dk, dv])
    back = (1, 2, 4, 0, 3, 5) if axis == "space" else (1, 4, 2, 0, 3, 5)
    return parts.transpose(back).reshape(qkv.shape)
