"""I3D on MindSpore for one clip at a time, with frames as the batch, so that every layer works on images.

A K x K x K convolution over F frames is computed as a K x K convolution over F images whose input channels
are those of K neighbouring frames: a CPU has fast kernels for images. Padding is TensorFlow's SAME (zeros,
the odd one after). Poolings are padded with zeros too, since their inputs are never negative.
"""

from collections.abc import Mapping

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from latte_cli.core.arrays import Array
from latte_cli.core.kernels.waiting import Compiled
from latte_cli.core.models.i3d.layers import LOGITS, MIXED, STEM, Layer, mixed_layers, mixed_outputs
from latte_cli.core.models.i3d.weights import Filter
from latte_cli.core.models.vae.convolution import conv2d


class Convolution(nn.Cell):
    """Convolution, normalisation and ReLU of (F, C, H, W) float32; `stride` in time and space, 1 or 2."""

    def __init__(self, layer: Layer, filters: Mapping[str, Filter], *, stride: int = 1) -> None:
        super().__init__()
        weight, bias = filters[layer.name]
        # (O, I, T, H, W) to (O, T x I, H, W): channels frame by frame.
        flat = np.ascontiguousarray(np.moveaxis(weight, 1, 2)).reshape(layer.outputs, -1, *weight.shape[3:])
        self.weight = Parameter(Tensor(flat), name="weight", requires_grad=False)
        self.bias = Parameter(Tensor(bias), name="bias", requires_grad=False)
        self.kernel, self.stride = layer.kernel, stride

    def construct(self, x: Tensor) -> Tensor:
        """Return (ceil(F / stride), O, ceil(H / stride), ceil(W / stride))."""
        padding = self.kernel // 2
        if self.stride > 1:  # asymmetric padding
            x, padding = pad(pad(x, 2, self.kernel, self.stride), 3, self.kernel, self.stride), 0
        stacked = neighbours(x, self.kernel, self.stride)
        return ops.relu(conv2d(stacked, self.weight, self.bias, self.stride, padding))


class Mixed(nn.Cell):
    """An Inception module: four branches, concatenated."""

    def __init__(self, name: str, inputs: int, filters: Mapping[str, Filter]) -> None:
        super().__init__()
        layers = [Convolution(layer, filters) for layer in mixed_layers(name, inputs)]
        self.branch_0, self.branch_1a, self.branch_1b, self.branch_2a, self.branch_2b, self.branch_3 = layers

    def construct(self, x: Tensor) -> Tensor:
        """(F, C, H, W) to (F, all branches' channels, H, W)."""
        branches = (
            self.branch_0(x),
            self.branch_1b(self.branch_1a(x)),
            self.branch_2b(self.branch_2a(x)),
            self.branch_3(max_pool(x, (3, 3), (1, 1))),
        )
        return ops.cat(branches, axis=1)


class I3d(nn.Cell):
    """I3D's features of one clip: (F, 3, 224, 224) float32 to (ceil(F / 8), 1024, 7, 7)."""

    def __init__(self, filters: Mapping[str, Filter]) -> None:
        super().__init__()
        first, second, third = STEM
        self.conv_1a = Convolution(first, filters, stride=2)
        self.conv_2b, self.conv_2c = Convolution(second, filters), Convolution(third, filters)
        inputs, modules = third.outputs, []
        for name in MIXED:
            modules.append(Mixed(name, inputs, filters))
            inputs = mixed_outputs(name)
        self.mixed_3, self.mixed_4, self.mixed_5 = (
            nn.SequentialCell(modules[start:stop]) for start, stop in ((0, 2), (2, 7), (7, 9))
        )

    def construct(self, x: Tensor) -> Tensor:
        """All layers before the logits."""
        x = max_pool(self.conv_1a(x), (1, 3), (1, 2))
        x = max_pool(self.conv_2c(self.conv_2b(x)), (1, 3), (1, 2))
        x = max_pool(self.mixed_3(x), (3, 3), (2, 2))
        x = max_pool(self.mixed_4(x), (2, 2), (2, 2))
        return self.mixed_5(x)


class Classifier:
    """Computes I3D's logits; compiled for the first clip, so all clips must have the same number of frames.

    A clip's logits are bit-identical in all processes on a machine: the final averages and product are
    computed in float64.
    """

    def __init__(self, filters: Mapping[str, Filter]) -> None:
        network = I3d(filters).set_train(False)
        weight, self._bias = filters[LOGITS]
        self._weight = weight.reshape(weight.shape[:2]).astype(np.float64)

        def run(frames):  # type: ignore[no-untyped-def]
            seen = network(frames)
            return seen, seen

        self._run = Compiled(run)

    def __call__(self, frames: Array) -> Array:
        """Logits (400) float32 of frames (F, 3, 224, 224) float32 in [-1, 1], F at least 9."""
        seen = self._run(Tensor(np.ascontiguousarray(frames, np.float32))).asnumpy()
        means = seen.astype(np.float64).mean(axis=(2, 3))
        pooled = (means[1:] + means[:-1]).mean(axis=0) / 2  # of pairs of neighbours, then of all pairs
        return (np.einsum("oc,c->o", self._weight, pooled) + self._bias).astype(np.float32)


def neighbours(x: Tensor, kernel: int, stride: int) -> Tensor:
    """For every stride-th frame of (F, C, H, W), the channels of the `kernel` frames around it.

    Returns (ceil(F / stride), kernel x C, H, W).
    """
    if kernel == 1:
        return x
    padded, frames = pad(x, 0, kernel, stride), -(-x.shape[0] // stride)
    span = (frames - 1) * stride + 1
    return ops.cat([padded[tap : tap + span : stride] for tap in range(kernel)], axis=1)


def max_pool(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Max pooling of non-negative (F, C, H, W); `kernel` and `stride` are (time, space)."""
    pooled = ops.MaxPool(kernel[1], stride[1], "same")(x)
    if kernel[0] == 1:
        return pooled
    padded, frames = pad(pooled, 0, kernel[0], stride[0]), -(-x.shape[0] // stride[0])
    span = (frames - 1) * stride[0] + 1
    largest = padded[: span : stride[0]]
    for tap in range(1, kernel[0]):
        largest = ops.maximum(largest, padded[tap : tap + span : stride[0]])
    return largest


def pad(x: Tensor, axis: int, kernel: int, stride: int) -> Tensor:
    """Pad an axis with zeros like TensorFlow's SAME."""
    parts = [x]
    for place, width in enumerate(same_padding(x.shape[axis], kernel, stride)):
        if width:
            zeros = ops.zeros((*x.shape[:axis], width, *x.shape[axis + 1 :]), x.dtype)
            parts = [zeros, *parts] if place == 0 else [*parts, zeros]
    return ops.cat(parts, axis=axis) if len(parts) > 1 else x


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after in TensorFlow's SAME: half each, the odd one after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
