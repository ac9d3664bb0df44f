"""The text-to-video transformer and its training loss in NumPy float64, written from the papers' formulas.

Latte (arXiv 2401.03048), with PixArt-alpha's adaLN-single and text attention (arXiv 2310.00426).
"""

from collections.abc import Mapping
from math import log, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.models.latte_t2v.shape import TextToVideoShape
from tests.core.kernels.reference import silu, softmax

Array = NDArray[np.float64]
Weights = Mapping[str, Array]


def forward(
    weights: Weights,
    shape: TextToVideoShape,
    x_t: Array,
    timesteps: Any,
    states: Array,
    mask: Array,
    *,
    change: Array | None = None,
    made: list[Array] | None = None,
) -> Array:
    """x_t: (B, F, C, h, w); states: (B, N, D); mask: (B, N). Returns (B, F, out_channels, h, w).

    change is added to the tokens instead of the blocks' change, which is appended to made.
    """
    clips, frames, channels, height, width = x_t.shape
    patch, d = shape.patch_size, shape.hidden_size
    rows, columns = height // patch, width // patch
    patches = x_t.reshape(clips, frames, channels, rows, patch, columns, patch).transpose(0, 1, 3, 5, 2, 4, 6)
    patches = patches.reshape(clips, frames, rows * columns, -1)
    x = patches @ weights["pos_embed.proj.weight"].reshape(d, -1).T + weights["pos_embed.proj.bias"]
    axis = np.arange(rows) / shape.interpolation_scale
    columns_of, rows_of = np.tile(axis, rows), np.repeat(axis, rows)
    x = x + np.concatenate([sines(d // 2, columns_of), sines(d // 2, rows_of)], axis=1)
    angles = np.asarray(timesteps)[:, None] * np.exp(-log(10000) * np.arange(128) / 128)
    embedded = linear(
        weights, "adaln_single.emb.timestep_embedder.linear_1", np.hstack([np.cos(angles), np.sin(angles)])
    )
    embedded = linear(weights, "adaln_single.emb.timestep_embedder.linear_2", silu(embedded))
    timestep = linear(weights, "adaln_single.linear", silu(embedded)).reshape(clips, 1, 1, 6, d)
    text = linear(
        weights, "caption_projection.linear_2", gelu(linear(weights, "caption_projection.linear_1", states))
    )
    before = x
    for pair in range(shape.depth):
        x = block(weights, f"transformer_blocks.{pair}", x, timestep, shape, (text, mask))
        x = x.swapaxes(1, 2)
        if pair == 0 and frames > 1:
            x = x + sines(d, np.arange(frames))
        x = block(weights, f"temporal_transformer_blocks.{pair}", x, timestep, shape, None)
        x = x.swapaxes(1, 2)
    if made is not None:
        made.append(x - before)
    if change is not None:
        x = before + change
    shift, scale = np.moveaxis(weights["scale_shift_table"] + embedded[:, None, None, None], 3, 0)
    out = linear(weights, "proj_out", normal(x) * (1 + scale) + shift)
    out = out.reshape(clips, frames, rows, columns, patch, patch, shape.out_channels)
    return out.transpose(0, 1, 6, 2, 4, 3, 5).reshape(clips, frames, shape.out_channels, height, width)


def block(
    weights: Weights, name: str, x: Array, timestep: Array, shape: TextToVideoShape, text: Any
) -> Array:
    """x: (B, groups, tokens, D), with attention over the tokens of a group."""
    parts = np.moveaxis(weights[f"{name}.scale_shift_table"] + timestep, 3, 0)
    y = normal(x) * (1 + parts[1]) + parts[0]
    x = x + parts[2] * attention(weights, f"{name}.attn1", y, y, heads=shape.num_heads)
    if text is not None:
        states, mask = text
        bias = np.where(mask > 0, 0.0, -10000.0)[:, None, None, None]
        x = x + attention(weights, f"{name}.attn2", x, states[:, None], heads=shape.num_heads, bias=bias)
    y = normal(x) * (1 + parts[4]) + parts[3]
    return x + parts[5] * linear(
        weights, f"{name}.ff.net.2", gelu(linear(weights, f"{name}.ff.net.0.proj", y))
    )


def attention(weights: Weights, name: str, x: Array, context: Array, *, heads: int, bias: Any = 0.0) -> Array:
    def split(y: Array) -> Array:
        return y.reshape(*y.shape[:-1], heads, -1).swapaxes(-2, -3)

    query, key, value = (
        split(linear(weights, f"{name}.to_{letter}", y))
        for letter, y in zip("qkv", (x, context, context), strict=True)
    )
    scores = query @ key.swapaxes(-1, -2) / sqrt(query.shape[-1]) + bias
    mixed = softmax(scores) @ value
    return linear(weights, f"{name}.to_out.0", mixed.swapaxes(-2, -3).reshape(x.shape))


def linear(weights: Weights, name: str, x: Array) -> Array:
    out = x @ weights[f"{name}.weight"].T
    if f"{name}.lora_A.weight" in weights:
        out = out + x @ weights[f"{name}.lora_A.weight"].T @ weights[f"{name}.lora_B.weight"].T
    return out + weights.get(f"{name}.bias", 0.0)


def normal(x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))


def sines(width: int, places: Array) -> Array:
    angles = np.asarray(places)[:, None] / 10000 ** (np.arange(width // 2) / (width / 2))
    return np.hstack([np.sin(angles), np.cos(angles)])


def loss(output: Array, frozen_eps: Array, x_start: Array, eps: Array, steps: Any) -> float:
    """Mean squared error plus the bound's KL, in bits, of the learned variance (steps > 0; linear betas).

    The bound trains only the variance: its noise is `frozen_eps` (Nichol & Dhariwal 2021, eq. 16).
    """
    betas = np.linspace(1e-4, 0.02, 1000)
    bars = np.cumprod(1 - betas)
    before = np.append(1.0, bars[:-1])
    beta, bar, previous = (table[steps].reshape(-1, 1, 1, 1, 1) for table in (betas, bars, before))
    variance = beta * (1 - previous) / (1 - bar)
    channels = x_start.shape[2]
    x_t = np.sqrt(bar) * x_start + np.sqrt(1 - bar) * eps

    def mean(x_0: Array) -> Array:
        of_x_t = (1 - previous) * np.sqrt(1 - beta) / (1 - bar)
        return beta * np.sqrt(previous) / (1 - bar) * x_0 + of_x_t * x_t

    seen = (x_t - np.sqrt(1 - bar) * frozen_eps) / np.sqrt(bar)
    share = (output[:, :, channels:] + 1) / 2
    log_variance = share * np.log(beta) + (1 - share) * np.log(variance)
    divergence = 0.5 * (
        log_variance
        - np.log(variance)
        - 1
        + variance / np.exp(log_variance)
        + (mean(x_start) - mean(seen)) ** 2 / np.exp(log_variance)
    )
    error = (output[:, :, :channels] - eps) ** 2
    return float((error.mean(axis=(1, 2, 3, 4)) + divergence.mean(axis=(1, 2, 3, 4)) / log(2)).mean())
