"""Latte's forward pass in NumPy float64, from its paper's formulas (arXiv 2401.03048, section 3).

With text, as the original's `extras: 78` model: CLIP's 77 x 768 states flattened, SiLU and a projection,
added to the timestep in every block; the final layer is conditioned on the timestep alone.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.models.latte.shape import LatteShape
from tests.core.kernels.reference import silu, softmax
from tests.core.models.latte_t2v.reference import gelu, linear, normal

Array = NDArray[np.float64]
Weights = Mapping[str, Array]


def forward(
    weights: Weights,
    shape: LatteShape,
    x_t: Array,
    timesteps: NDArray[np.int64],
    condition: Array | None,
    *,
    change: Array | None = None,
    made: list[Array] | None = None,
) -> Array:
    """x_t: (B, F, C, h, w); condition: class labels (B,), text states (B, 77, 768), or None.

    With I still images after the video's frames, as in image-video joint training: x_t (B, F + I, C, h, w)
    and class labels (B, 1 + I). Spatial blocks see every frame with its own condition, temporal blocks the
    video. change is added to the tokens instead of the blocks' change, which is appended to made.
    """
    clips, frames, channels, height, width = x_t.shape
    patch, rows, columns = shape.patch_size, height // shape.patch_size, width // shape.patch_size
    patches = x_t.reshape(clips, frames, channels, rows, patch, columns, patch).transpose(0, 1, 3, 5, 2, 4, 6)
    kernel = weights["x_embedder.proj.weight"].reshape(shape.hidden_size, -1)
    x = patches.reshape(clips, frames, rows * columns, -1) @ kernel.T + weights["x_embedder.proj.bias"]
    x = x + weights["pos_embed"]
    angles = timesteps[:, None] * np.exp(-np.log(10000) * np.arange(128) / 128)
    timestep = linear(weights, "t_embedder.mlp.0", np.hstack([np.cos(angles), np.sin(angles)]))
    timestep = linear(weights, "t_embedder.mlp.2", silu(timestep))
    video = shape.num_frames
    embedding, embedding_each = timestep, np.repeat(timestep[:, None], frames, axis=1)
    if shape.condition == "class" and condition is not None:
        labels = weights["y_embedder.embedding_table.weight"][condition.astype(int).reshape(clips, -1)]
        embedding = timestep + labels[:, 0]
        embedding_each = np.stack(
            [timestep + labels[:, max(0, f - video + 1)] for f in range(frames)], axis=1
        )
    if shape.condition == "text" and condition is not None:
        text = linear(weights, "text_embedding_projection.1", silu(condition.reshape(clips, -1)))
        embedding = timestep + text
        embedding_each = np.repeat(embedding[:, None], frames, axis=1)
    before = x
    for place in range(0, shape.depth, 2):
        x = block(weights, f"blocks.{place}", x, embedding_each, heads=shape.num_heads)
        courses = x[:, :video].swapaxes(1, 2)
        if place == 0:
            courses = courses + weights["temp_embed"]
        courses = block(weights, f"blocks.{place + 1}", courses, embedding, heads=shape.num_heads)
        x = np.concatenate([courses.swapaxes(1, 2), x[:, video:]], axis=1)
    if made is not None:
        made.append(x - before)
    if change is not None:
        x = before + change
    last = timestep if shape.condition == "text" else embedding_each
    shift, scale = modulation(weights, "final_layer", last, 2)
    x = linear(weights, "final_layer.linear", normal(x) * (1 + scale) + shift)
    x = x.reshape(clips, frames, rows, columns, patch, patch, -1).transpose(0, 1, 6, 2, 4, 3, 5)
    return x.reshape(clips, frames, -1, height, width)


def block(weights: Weights, name: str, x: Array, embedding: Array, *, heads: int) -> Array:
    """x: (B, groups, tokens, D), attends within each group; embedding: (B, D) or (B, groups, D)."""
    parts = modulation(weights, name, embedding, 6)
    y = normal(x) * (1 + parts[1]) + parts[0]
    qkv = linear(weights, f"{name}.attn.qkv", y).reshape(*x.shape[:3], 3, heads, -1)
    query, key, value = np.moveaxis(qkv, (3, 4), (0, 3))
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    mixed = softmax(scores) @ value
    x = x + parts[2] * linear(weights, f"{name}.attn.proj", mixed.swapaxes(2, 3).reshape(x.shape))
    y = normal(x) * (1 + parts[4]) + parts[3]
    return x + parts[5] * linear(weights, f"{name}.mlp.fc2", gelu(linear(weights, f"{name}.mlp.fc1", y)))


def modulation(weights: Weights, name: str, embedding: Array, parts: int) -> list[Array]:
    """Vectors of a sample, (B, 1, 1, D) each, or of its groups, (B, groups, 1, D): adaLN."""
    vectors = linear(weights, f"{name}.adaLN_modulation.1", silu(embedding))
    vectors = vectors[:, None] if embedding.ndim == 2 else vectors
    return [part[:, :, None] for part in np.split(vectors, parts, axis=2)]
