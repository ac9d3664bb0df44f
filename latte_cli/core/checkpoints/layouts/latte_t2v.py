"""The text-to-video transformer's tensors, named as in diffusers' LatteTransformer3DModel and in mindone.

Vchitect's LatteT2V has the same names and three additional buffers, which are computed or random.
"""

import math
import re
from collections.abc import Mapping

from latte_cli.core.checkpoints.layouts.latte import dense
from latte_cli.core.checkpoints.layouts.matching import TIMESTEP_CHANNELS, Placed, depth_of, shapes_of
from latte_cli.core.checkpoints.limits import RefusedError
from latte_cli.core.checkpoints.tensors import Shape, Tensor

MARKS = (
    "temporal_transformer_blocks.",
    "transformer_blocks.0.",
    "adaln_single.",
    "caption_projection.",
    "proj_out.",
)
_BUFFERS = {
    "caption_projection.y_embedding": "a buffer of Vchitect's class that sampling does not use",
    "pos_embed.pos_embed": "computed, not loaded",
    "temp_pos_embed": "computed, not loaded",
}
_SPATIAL, _TEMPORAL = "transformer_blocks", "temporal_transformer_blocks"
_BLOCK = re.compile(rf"({_TEMPORAL}|{_SPATIAL})\.(\d{{1,4}})\.")


def place_t2v(tensors: Mapping[str, Tensor]) -> Placed:
    """The transformer's tensors; no renaming is needed."""
    placed = Placed()
    for name, tensor in tensors.items():
        if name in _BUFFERS:
            placed.ignored[name] = _BUFFERS[name]
        else:
            placed.place(name, name, tensor)
    return placed


def t2v_layout(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Shape], dict[str, object]]:
    """The name and shape of every tensor of the transformer that these describe, and its sizes by name."""
    shapes = shapes_of(tensors)
    embedder, captions = (
        _known(shapes, "pos_embed.proj.weight", 4),
        _known(shapes, "caption_projection.linear_1.weight", 2),
    )
    outputs = _known(shapes, "proj_out.bias", 1)[0]
    width, channels, patch = embedder[:3]
    hidden = _known(shapes, f"{_SPATIAL}.0.ff.net.0.proj.bias", 1)[0]
    cross = _known(shapes, f"{_SPATIAL}.0.attn2.to_k.weight", 2)[1]
    depth = depth_of(int(match[2]) for name in shapes if (match := _BLOCK.match(name)))
    layout: dict[str, Shape] = {
        "pos_embed.proj.weight": (width, channels, patch, patch),
        "pos_embed.proj.bias": (width,),
    }
    layout |= dense("adaln_single.emb.timestep_embedder.linear_1", TIMESTEP_CHANNELS, width)
    layout |= dense("adaln_single.emb.timestep_embedder.linear_2", width, width)
    layout |= dense("adaln_single.linear", width, 6 * width)
    layout |= dense("caption_projection.linear_1", captions[1], width) | dense(
        "caption_projection.linear_2", width, width
    )
    biased = f"{_SPATIAL}.0.attn1.to_q.bias" in shapes
    for index in range(depth):
        for block in (f"{_SPATIAL}.{index}", f"{_TEMPORAL}.{index}"):
            layout[f"{block}.scale_shift_table"] = (6, width)
            layout |= _attention(f"{block}.attn1", width, width, biased=biased)
            if block.startswith(_SPATIAL):
                layout |= _attention(f"{block}.attn2", width, cross, biased=biased)
            layout |= dense(f"{block}.ff.net.0.proj", width, hidden) | dense(
                f"{block}.ff.net.2", hidden, width
            )
    layout |= {"scale_shift_table": (2, width)} | dense("proj_out", width, outputs)
    sizes = {
        "hidden_size": width,
        "depth": depth,
        "patch_size": patch,
        "caption_channels": captions[1],
        "out_channels": outputs // max(1, patch * patch),
    }
    return layout, dict(sizes)


def _attention(name: str, width: int, context: int, *, biased: bool) -> dict[str, Shape]:
    layout: dict[str, Shape] = {}
    for part, inputs in (("to_q", width), ("to_k", context), ("to_v", context)):
        layout[f"{name}.{part}.weight"] = (width, inputs)
        if biased:
            layout[f"{name}.{part}.bias"] = (width,)
    return layout | dense(f"{name}.to_out.0", width, width)


def _known(shapes: Mapping[str, Shape], name: str, axes: int) -> Shape:
    shape = shapes.get(name)
    if shape is None:
        raise RefusedError(f"is not a complete text-to-video transformer: missing {name}")
    if len(shape) != axes or not math.prod(shape):
        raise RefusedError(f"{name} has shape {shape}, expected {axes} non-empty axes")
    return shape
