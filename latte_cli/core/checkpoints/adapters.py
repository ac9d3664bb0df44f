"""Low-rank adapters added to weights: W + strength * alpha / rank * B A (LoRA, Hu et al. 2021)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Array
from latte_cli.core.checkpoints.dtypes import DTYPES, Bits, Dtype, cast, widen
from latte_cli.core.checkpoints.lora import Lora, LoraUse, load_lora
from latte_cli.core.checkpoints.tensors import Shape, Tensor
from latte_cli.core.errors import LatteError


class Adapter(NamedTuple):
    """Adapters with their strength; `source` is their file, for messages."""

    lora: Lora
    strength: float
    source: str


def read_adapters(uses: Sequence[LoraUse]) -> list[Adapter]:
    """Read the adapters in files. Raises LatteError like `load_lora`."""
    return [Adapter(load_lora(use.path), use.strength, str(use.path)) for use in uses]


def check_fit(weights: Mapping[str, Shape], adapters: Sequence[Adapter]) -> None:
    """Raise LatteError if adapters do not fit a model with these names and shapes."""
    for lora, _, source in adapters:
        for name, (a, b) in lora.factors.items():
            shape = weights.get(f"{name}.weight")
            if shape != (len(b), a.shape[1]):
                mine = f"{name}: found ({len(b)}, {a.shape[1]})"
                raise LatteError(f"{source}: {mine}, expected {shape or 'a projection of the transformer'}")


def added(weight: Bits, projection: str, adapters: Sequence[Adapter]) -> NDArray[np.float32]:
    """A projection's weight with its adapters added in float64, rounded to float32 once."""
    total = weight.astype(np.float64)
    for lora, strength, _ in adapters:
        if projection in lora.factors:
            total += strength * lora.change(projection)
    return total.astype(np.float32)


class WithAdapters(Mapping[str, Array]):
    """Weights by name, with adapters added to each when it is read."""

    def __init__(self, weights: Mapping[str, Array], adapters: Sequence[Adapter]):
        """Raises LatteError if the adapters do not fit."""
        self.weights, self.adapters = weights, adapters
        self._changed = {f"{name}.weight" for adapter in adapters for name in adapter.lora.factors}
        check_fit({name: weights[name].shape for name in self._changed if name in weights}, adapters)

    def __getitem__(self, name: str) -> Array:
        if name not in self._changed:
            return self.weights[name]
        return added(self.weights[name], name.removesuffix(".weight"), self.adapters)

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


@dataclass(frozen=True)
class Merged:
    """A tensor in its file with adapters added, in its own type."""

    tensor: Tensor
    projection: str
    adapters: Sequence[Adapter]

    @property
    def dtype(self) -> Dtype:
        return self.tensor.dtype

    @property
    def shape(self) -> Shape:
        return self.tensor.shape

    def bits(self) -> Bits:
        numbers = added(widen(self.tensor.bits(), self.dtype), self.projection, self.adapters)
        return cast(numbers, DTYPES["float32"], self.dtype)

    def release(self) -> None:
        self.tensor.release()


def merged(tensors: Mapping[str, Tensor], adapters: Sequence[Adapter]) -> dict[str, Tensor]:
    """A model's tensors with adapters added. Raises LatteError if they do not fit."""
    check_fit({name: tensor.shape for name, tensor in tensors.items()}, adapters)
    changed = {f"{name}.weight" for adapter in adapters for name in adapter.lora.factors}
    return {
        name: Merged(tensor, name.removesuffix(".weight"), adapters) if name in changed else tensor
        for name, tensor in tensors.items()
    }
