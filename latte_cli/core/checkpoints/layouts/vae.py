"""The autoencoder's tensors: diffusers' AutoencoderKL names (also used by mindone) and CompVis's older names.

CompVis counts the decoder's stages from the pixels, diffusers from the latents. CompVis's attention layers
are 1x1 convolutions. Old diffusers files use other names for the attention's four layers.
"""

import math
import re
from collections.abc import Mapping

from latte_cli.core.checkpoints.layouts.latte import dense
from latte_cli.core.checkpoints.layouts.matching import Placed, reshaped, shapes_of
from latte_cli.core.checkpoints.limits import RefusedError
from latte_cli.core.checkpoints.tensors import Shape, Tensor

MARKS = (
    "encoder.conv_in.",
    "decoder.conv_in.",
    "decoder.conv_out.",
    "first_stage_model.",
    "post_quant_conv.",
)
_IN_STABLE_DIFFUSION = "first_stage_model."
_LEFT = {
    "loss.": "the discriminator and loss of the autoencoder's training",
    "model_ema.": "bookkeeping of the averaged weights",
}
_ATTENTION = re.compile(
    r"((?:encoder|decoder)\.mid_block\.attentions\.0\.)(query|key|value|proj_attn)\.(weight|bias)"
)
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_MINDSPORE_NORMS = {".gamma": ".weight", ".beta": ".bias"}  # as in MindONE's autoencoder
_STAGE = re.compile(r"(encoder\.down|decoder\.up)\.(\d{1,3})\.(.+)")
_MIDDLE = {
    "mid.block_1.": "mid_block.resnets.0.",
    "mid.block_2.": "mid_block.resnets.1.",
    "mid.attn_1.norm.": "mid_block.attentions.0.group_norm.",
    "mid.attn_1.q.": "mid_block.attentions.0.to_q.",
    "mid.attn_1.k.": "mid_block.attentions.0.to_k.",
    "mid.attn_1.v.": "mid_block.attentions.0.to_v.",
    "mid.attn_1.proj_out.": "mid_block.attentions.0.to_out.0.",
    "norm_out.": "conv_norm_out.",
}
_IN_STAGE = {"block.": "resnets.", "downsample.": "downsamplers.0.", "upsample.": "upsamplers.0."}


def place_vae(tensors: Mapping[str, Tensor]) -> Placed:
    """The autoencoder's tensors under diffusers' names; other parts of Stable Diffusion are ignored."""
    placed = Placed()
    inside = any(name.startswith(_IN_STABLE_DIFFUSION) for name in tensors)
    bare = {}
    for name, tensor in tensors.items():
        short = name.removeprefix(_IN_STABLE_DIFFUSION)
        reason = next((words for prefix, words in _LEFT.items() if short.startswith(prefix)), None)
        if inside and short == name:
            reason = "not the autoencoder: another part of Stable Diffusion"
        if reason:
            placed.ignored[name] = reason
        else:
            bare[name] = (short, tensor)
    stages = 1 + max(
        (int(match[2]) for short, _ in bare.values() if (match := _STAGE.match(short))), default=0
    )
    for name, (short, tensor) in bare.items():
        ours = diffusers_name(short, stages=stages)
        is_convolution = ".attentions." in ours and len(tensor.shape) == 4 and tensor.shape[2:] == (1, 1)
        placed.place(name, ours, reshaped(tensor, tensor.shape[:2]) if is_convolution else tensor)
    return placed


def diffusers_name(name: str, *, stages: int) -> str:
    """Convert a CompVis, MindONE or old diffusers name to the current diffusers name; keep other names."""
    for theirs, ours in _MINDSPORE_NORMS.items():
        name = name.removesuffix(theirs) + ours if name.endswith(theirs) else name
    if old := _ATTENTION.fullmatch(name):
        return f"{old[1]}{_NEW_ATTENTION[old[2]]}.{old[3]}"
    if stage := _STAGE.match(name):
        side, index, rest = stage[1], int(stage[2]), stage[3]
        for theirs, ours in _IN_STAGE.items():
            if rest.startswith(theirs):
                rest = ours + rest.removeprefix(theirs).replace("nin_shortcut.", "conv_shortcut.")
                return f"{side}_blocks.{index if side == 'encoder.down' else stages - 1 - index}.{rest}"
    side, _, rest = name.partition(".")
    for theirs, ours in _MIDDLE.items() if side in ("encoder", "decoder") else ():
        if rest.startswith(theirs):
            return f"{side}.{ours}{rest.removeprefix(theirs)}"
    return name


def vae_layout(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Shape], dict[str, object]]:
    """The name and shape of every tensor of the AutoencoderKL that these describe, and its sizes by name."""
    shapes = shapes_of(tensors)
    widths: list[int] = []
    while first := shapes.get(f"encoder.down_blocks.{len(widths)}.resnets.0.conv1.bias"):
        widths.append(first[0])
    layers = 0
    while f"encoder.down_blocks.0.resnets.{layers}.conv1.bias" in shapes:
        layers += 1
    if not layers:
        missing = "encoder.down_blocks.0.resnets.0.conv1.bias"
        raise RefusedError(f"is not a complete autoencoder: missing {missing}")
    channels, latents = _size(shapes, "encoder.conv_in.weight", 1), _size(shapes, "decoder.conv_in.weight", 1)
    moments, images = _size(shapes, "encoder.conv_out.bias", 0), _size(shapes, "decoder.conv_out.bias", 0)
    layout = _convolution("encoder.conv_in", channels, widths[0]) | _convolution(
        "decoder.conv_in", latents, widths[-1]
    )
    layout |= _stages("encoder.down_blocks", widths, layers, resampler="downsamplers")
    attends = any(".mid_block.attentions." in name for name in shapes)
    for side in ("encoder", "decoder"):
        layout |= _middle(side, widths[-1], attends=attends)
    layout |= _stages("decoder.up_blocks", widths[::-1], layers + 1, resampler="upsamplers")
    layout |= _norm("encoder.conv_norm_out", widths[-1]) | _convolution(
        "encoder.conv_out", widths[-1], moments
    )
    layout |= _norm("decoder.conv_norm_out", widths[0]) | _convolution("decoder.conv_out", widths[0], images)
    if "quant_conv.weight" in shapes or "post_quant_conv.weight" in shapes:
        layout |= _convolution("quant_conv", moments, moments, size=1)
        layout |= _convolution("post_quant_conv", latents, latents, size=1)
    sizes = {"block_out_channels": tuple(widths), "layers_per_block": layers, "latent_channels": latents}
    return layout, dict(sizes)


def _stages(name: str, widths: list[int], layers: int, *, resampler: str) -> dict[str, Shape]:
    layout: dict[str, Shape] = {}
    inputs = widths[0]
    for stage, width in enumerate(widths):
        for layer in range(layers):
            layout |= _residual(f"{name}.{stage}.resnets.{layer}", inputs, width)
            inputs = width
        if stage + 1 < len(widths):
            layout |= _convolution(f"{name}.{stage}.{resampler}.0.conv", width, width)
    return layout


def _middle(side: str, width: int, *, attends: bool) -> dict[str, Shape]:
    block = f"{side}.mid_block"
    layout = _residual(f"{block}.resnets.0", width, width) | _residual(f"{block}.resnets.1", width, width)
    if not attends:
        return layout
    layout |= _norm(f"{block}.attentions.0.group_norm", width)
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        layout |= dense(f"{block}.attentions.0.{part}", width, width)
    return layout


def _residual(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    layout = _norm(f"{name}.norm1", inputs) | _convolution(f"{name}.conv1", inputs, outputs)
    layout |= _norm(f"{name}.norm2", outputs) | _convolution(f"{name}.conv2", outputs, outputs)
    return layout | (
        _convolution(f"{name}.conv_shortcut", inputs, outputs, size=1) if inputs != outputs else {}
    )


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _convolution(name: str, inputs: int, outputs: int, *, size: int = 3) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs, size, size), f"{name}.bias": (outputs,)}


def _size(shapes: Mapping[str, Shape], name: str, axis: int) -> int:
    shape = shapes.get(name, ())
    if name not in shapes:
        raise RefusedError(f"is not a complete autoencoder: missing {name}")
    if len(shape) <= axis or not math.prod(shape):
        raise RefusedError(f"{name} has an invalid shape, {shape}")
    return shape[axis]
