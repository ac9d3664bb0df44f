"""Latte's tensors: the model they describe, their full list, and their names in other programs.

The names are those of the PyTorch original (Vchitect/Latte, models/latte.py), so most files need no renaming.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from latte_cli.core.checkpoints.layouts.matching import TIMESTEP_CHANNELS, Placed, depth_of
from latte_cli.core.checkpoints.limits import RefusedError
from latte_cli.core.checkpoints.tensors import Rearranged, Shape, Tensor
from latte_cli.core.latents import LATENT_CHANNELS, VAE_FACTOR

_BLOCK = re.compile(r"blocks\.(\d{1,4})\.")

MARKS = ("x_embedder.", "t_embedder.", "temp_embed", "final_layer.", "blocks.0.adaLN_modulation.")

# The name in MindSpore's Embedding, used by MindONE's Latte (examples/latte/tools/latte_converter.py).
_RENAMED = {"y_embedder.embedding_table.embedding_table": "y_embedder.embedding_table.weight"}
# MindONE's resume checkpoints contain the optimizer's state in addition to the weights.
_OPTIMIZER = re.compile(
    r"(?:adam_[mv]|moments?\d?|moment[12]|vhat|exp_avg|exp_avg_sq|max_exp_avg_sq|master|stat|accum\w*)\."
    r"|(?:learning_rate|global_step|beta[12]_power|epoch_num|step_num|loss_scale|updates|state_step"
    r"|current_iterator_step|last_overflow_iterator_step)$"
)


@dataclass(frozen=True)
class LatteDescription:
    """The model described by a checkpoint's tensors, except the number of heads, which they do not show."""

    hidden_size: int
    depth: int
    patch_size: int
    num_frames: int
    image_size: int
    """Frame size in pixels: eight times the latent size."""
    condition: Literal["none", "class", "text"]
    num_classes: int | None
    learn_sigma: bool
    mlp_ratio: float
    text_features: int | None = None
    """Length of the flattened text embedding, for condition: text."""


def place_latte(tensors: Mapping[str, Tensor]) -> Placed:
    """Latte's tensors under our names: renames MindONE's label embedder and converts its linear patch
    embedder to a convolution."""
    placed = Placed()
    for name, tensor in tensors.items():
        if _OPTIMIZER.match(name):
            placed.ignored[name] = "state of the optimizer"
        elif name == "x_embedder.proj.weight" and len(tensor.shape) == 2:
            placed.place(name, name, _as_convolution(tensor))
        else:
            placed.place(name, _RENAMED.get(name, name), tensor)
    return placed


def _as_convolution(linear: Tensor) -> Tensor:
    """Convert (D, p*p*4), a patch's pixels row by row with channels last, to (D, 4, p, p)."""
    width, inputs = linear.shape
    patch = math.isqrt(inputs // LATENT_CHANNELS)
    if patch * patch * LATENT_CHANNELS != inputs or not patch:
        raise RefusedError(
            f"x_embedder.proj.weight of shape {linear.shape} is not a patch embedder of four channels"
        )
    shape = (width, LATENT_CHANNELS, patch, patch)
    return Rearranged(linear, shape, split=(width, patch, patch, LATENT_CHANNELS), order=(0, 3, 1, 2))


def describe_latte(shapes: Mapping[str, Shape]) -> LatteDescription:
    """Infer the model from a Latte checkpoint's shapes; contradictions are found later by `latte_layout`.

    Raises RefusedError if required tensors are missing or have invalid shapes.
    """
    needed = (
        "x_embedder.proj.weight",
        "final_layer.linear.bias",
        "pos_embed",
        "temp_embed",
        "blocks.0.mlp.fc1.bias",
    )
    missing = [name for name in needed if name not in shapes]
    if missing:
        raise RefusedError(f"is not a complete Latte checkpoint: missing {', '.join(missing)}")
    embedder = shapes["x_embedder.proj.weight"]
    if len(embedder) != 4 or embedder[1] != LATENT_CHANNELS or embedder[2] != embedder[3]:
        raise RefusedError(
            f"x_embedder.proj.weight has shape {embedder}, expected (width, {LATENT_CHANNELS}, patch, patch)"
        )
    width, patch = _width(shapes), embedder[2]
    if not width or not patch or not shapes["blocks.0.mlp.fc1.bias"]:
        raise RefusedError("is not a Latte checkpoint: its tensors are empty")
    tokens, frames = _axis(shapes, "pos_embed", 1), _axis(shapes, "temp_embed", 1)
    side = math.isqrt(tokens)
    if not frames or not tokens or side * side != tokens:
        raise RefusedError(
            f"pos_embed has {tokens} tokens and temp_embed {frames} frames,"
            " expected a square and at least one"
        )
    classes, text = (
        shapes.get("y_embedder.embedding_table.weight"),
        shapes.get("text_embedding_projection.1.weight"),
    )
    return LatteDescription(
        hidden_size=width,
        depth=depth_of(int(match[1]) for name in shapes if (match := _BLOCK.match(name))),
        patch_size=patch,
        num_frames=frames,
        image_size=side * patch * VAE_FACTOR,
        condition="class" if classes else "text" if text else "none",
        num_classes=classes[0] - 1 if classes else None,  # the last row is "no condition"
        learn_sigma=shapes["final_layer.linear.bias"] != (patch * patch * LATENT_CHANNELS,),
        mlp_ratio=shapes["blocks.0.mlp.fc1.bias"][0] / width,
        text_features=text[-1] if text else None,
    )


def latte_layout(found: LatteDescription) -> dict[str, Shape]:
    """The name and shape of every tensor of the model."""
    width, patch, hidden = found.hidden_size, found.patch_size, round(found.hidden_size * found.mlp_ratio)
    outputs = LATENT_CHANNELS * (2 if found.learn_sigma else 1)
    side = found.image_size // VAE_FACTOR // patch
    layout: dict[str, Shape] = {
        "pos_embed": (1, side * side, width),
        "temp_embed": (1, found.num_frames, width),
    }
    layout["x_embedder.proj.weight"] = (width, LATENT_CHANNELS, patch, patch)
    layout["x_embedder.proj.bias"] = (width,)
    layout |= dense("t_embedder.mlp.0", TIMESTEP_CHANNELS, width) | dense("t_embedder.mlp.2", width, width)
    if found.condition == "class":
        layout["y_embedder.embedding_table.weight"] = ((found.num_classes or 0) + 1, width)
    if found.condition == "text":
        layout |= dense("text_embedding_projection.1", found.text_features or 0, width)
    for block in (f"blocks.{index}" for index in range(found.depth)):
        layout |= dense(f"{block}.attn.qkv", width, 3 * width) | dense(f"{block}.attn.proj", width, width)
        layout |= dense(f"{block}.mlp.fc1", width, hidden) | dense(f"{block}.mlp.fc2", hidden, width)
        layout |= dense(f"{block}.adaLN_modulation.1", width, 6 * width)
    layout |= dense("final_layer.linear", width, patch * patch * outputs)
    return layout | dense("final_layer.adaLN_modulation.1", width, 2 * width)


def dense(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    """The weight and bias of a linear layer."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _width(shapes: Mapping[str, Shape]) -> int:
    """The hidden size on which most of the tensors that show it agree."""
    shown = {"x_embedder.proj.bias": 0, "t_embedder.mlp.2.bias": 0, "pos_embed": 2, "temp_embed": 2}
    votes = [_axis(shapes, name, axis) for name, axis in shown.items()]
    votes.append(_axis(shapes, "final_layer.linear.weight", 1))
    return Counter(vote for vote in votes if vote).most_common(1)[0][0] if any(votes) else 0


def _axis(shapes: Mapping[str, Shape], name: str, axis: int) -> int:
    shape = shapes.get(name, ())
    return shape[axis] if len(shape) > axis else 0
