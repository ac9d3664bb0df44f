"""Work and memory of an autoencoder, for plans. Does not import MindSpore."""

import math
import re
from collections.abc import Mapping
from typing import Literal

from latte_cli.core.checkpoints.autoencoder import open_autoencoder
from latte_cli.core.checkpoints.tensors import Shape
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.vae.memory import choose_frames, described
from latte_cli.core.planning.plan import Plan


def add_decoding(
    plan: Plan, weights: str | None, *, frames: int, size: tuple[int, int], asked: Literal["auto"] | int
) -> None:
    """Add a row on how many of a clip's frames of `size` pixels (height, width) are decoded at once.

    An autoencoder that cannot be opened, or frames that do not fit into memory, become a problem of the plan.
    """

    def add() -> None:
        shape = open_autoencoder(weights).shape
        number = min(frames, choose_frames("decoding", shape, size, asked))
        plan.add("decoding", described("decoding", shape, size, number).removeprefix("decoding "))

    plan.check(add)


def encoding_flops(shapes: Mapping[str, Shape], image_size: int) -> int:
    """Operations of the convolutions and linear layers for one image, two per multiply-add."""
    return _flops(shapes, ("encoder.", "quant_conv."), image_size**2)


def decoding_flops(shapes: Mapping[str, Shape], height: int, width: int) -> int:
    """Operations of the convolutions and linear layers for one frame of this many pixels."""
    return _flops(shapes, ("decoder.", "post_quant_conv."), height * width)


def _flops(shapes: Mapping[str, Shape], parts: tuple[str, ...], pixels: int) -> int:
    return sum(
        2 * math.prod(shape) * pixels // _shrunk(name) ** 2
        for name, shape in shapes.items()
        if name.startswith(parts) and len(shape) > 1
    )


def _shrunk(name: str) -> int:
    """The factor by which a layer's output is smaller than the image, per side."""
    if name.startswith(("encoder.conv_in.", "decoder.conv_out.", "decoder.time_conv_out.")):
        return 1
    found = re.match(r"(?:en|de)coder\.(down|up)_blocks\.(\d+)\.((?:down|up)samplers)?", name)
    if found is None:
        return VAE_FACTOR
    level = int(found[2]) + (found[3] is not None)
    return 2**level if found[1] == "down" else max(1, VAE_FACTOR >> level)
