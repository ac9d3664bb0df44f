"""LoRA: low-rank adaptation of a transformer's projections (Hu et al. 2021, arXiv 2106.09685).

A projection's weight W becomes W + alpha / rank * B A; only A (rank, inputs) and B (outputs, rank) are
trained. MindONE's peft supports only MindSpore's own layers; the names in files are those of peft.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor

from latte_cli.core.arrays import Array
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.checkpoints.save import save_weights
from latte_cli.core.errors import LatteError, found
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.rng import Stream, draw

PREFIX = "transformer."  # of the names in a file, as in diffusers
PREFIXES = ("base_model.model.", PREFIX)
FIRST_PLACE = 1 << 20  # of the random streams, after those of the transformer's parameters


@dataclass(frozen=True)
class Lora:
    """LoRA factors by projection: A (rank, inputs), B (outputs, rank)."""

    rank: int
    alpha: float
    factors: Mapping[str, tuple[Array, Array]]

    def change(self, projection: str) -> Array:
        """The update of a projection's weight: (outputs, inputs)."""
        a, b = self.factors[projection]
        return (self.alpha / self.rank) * (b @ a)


def add_lora(model: Transformer, *, rank: int, alpha: float, seed: int) -> None:
    """Add LoRA to all projections that support it; call before compilation.

    Updates start at zero: A is uniform within 1 / sqrt(inputs), as in peft, and B is zero.
    """
    for place, (name, projection) in enumerate(model.lora_targets()):
        outputs, inputs = projection.weight.shape
        generator = draw(seed, Stream.INIT, FIRST_PLACE + place)
        a = generator.uniform(-1, 1, (rank, inputs)).astype(np.float32) / np.float32(np.sqrt(inputs))
        set_factors(projection, name, (a, np.zeros((outputs, rank), np.float32)), alpha / rank)


def train_only(model: Transformer, is_trained: Callable[[str], bool]) -> None:
    """Freeze all parameters except those for which `is_trained(name)`."""
    for parameter in model.trainable_params():
        parameter.requires_grad = is_trained(parameter.name)


def lora_of(model: Transformer, parameters: Mapping[str, Array] | None = None) -> Lora:
    """The LoRA of a model; `parameters` replaces the model's own, for example by averages."""
    factors, rank, scale = {}, 0, 0.0
    for name, projection in model.lora_targets():
        if projection.lora_scale:
            pair = (projection.lora_A.weight, projection.lora_B.weight)
            a, b = (
                parameter.asnumpy() if parameters is None else parameters[parameter.name]
                for parameter in pair
            )
            factors[name], rank, scale = (a, b), len(a), projection.lora_scale
    return Lora(rank, scale * rank, factors)


def save_lora(target: Path, lora: Lora, *, dtype: str = "float32") -> None:
    """Write a .safetensors file for `latte sample --lora` and peft, atomically."""
    arrays = {}
    for name, (a, b) in lora.factors.items():
        arrays[f"{PREFIX}{name}.lora_A.weight"], arrays[f"{PREFIX}{name}.lora_B.weight"] = a, b
    save_weights(target, arrays, metadata={"rank": str(lora.rank), "alpha": repr(lora.alpha)}, dtype=dtype)


def load_lora(path: Path) -> Lora:
    """Read a LoRA file. Raises LatteError if it contains something else.

    If the file states no alpha, it is the rank, as in peft.
    """
    weights = open_weights(path)
    halves: dict[str, dict[str, Array]] = {}
    for name in weights.names:
        bare = name
        for prefix in PREFIXES:
            bare = bare.removeprefix(prefix)
        projection, dot, factor = bare.rpartition(".lora_")
        if not dot or factor not in ("A.weight", "B.weight"):
            raise LatteError(
                f"{path}: found {name}, expected LoRA weights: names that end with lora_A.weight"
            )
        halves.setdefault(projection, {})[factor[0]] = weights.read(name).astype(np.float32)
    factors = {}
    for name, pair in halves.items():
        shapes = [factor.shape for _, factor in sorted(pair.items())]
        if [len(shape) for shape in shapes] != [2, 2] or shapes[0][0] != shapes[1][1]:
            raise LatteError(f"{path}: {name}: expected lora_A (rank, inputs) with lora_B (outputs, rank)")
        factors[name] = pair["A"], pair["B"]
    ranks = sorted({len(a) for a, _ in factors.values()})
    if len(ranks) > 1:
        raise LatteError(
            f"{path}: found ranks {ranks[0]} and {ranks[-1]}, expected the same for all projections"
        )
    return Lora(ranks[0], _alpha(weights.metadata.get("alpha", str(ranks[0])), path), factors)


def _alpha(text: str, path: Path) -> float:
    """The alpha in a file's metadata."""
    try:
        alpha = float(text)
    except ValueError:
        alpha = math.nan
    if not math.isfinite(alpha):
        raise LatteError(f"{path}: alpha: {found(text, 'a number')}")
    return alpha


def with_lora(weights: Mapping[str, Array], lora: Lora, *, source: str) -> "Changed":
    """The weights with LoRA added, each when it is read.

    Raises LatteError naming `source` if the LoRA belongs to another model.
    """
    for name, (a, b) in lora.factors.items():
        shape = weights[f"{name}.weight"].shape if f"{name}.weight" in weights else None
        if shape != (len(b), a.shape[1]):
            mine = f"{name}: found ({len(b)}, {a.shape[1]})"
            raise LatteError(f"{source}: {mine}, expected {shape or 'a projection of the transformer'}")
    return Changed(weights, lora)


class Changed(Mapping[str, Array]):
    """Weights by name, with LoRA added."""

    def __init__(self, weights: Mapping[str, Array], lora: Lora):
        self.weights, self.lora = weights, lora

    def __getitem__(self, name: str) -> Array:
        projection = name.removesuffix(".weight")
        if projection == name or projection not in self.lora.factors:
            return self.weights[name]
        return self.weights[name] + self.lora.change(projection)

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def set_factors(projection: Any, name: str, factors: tuple[Array, Array], scale: float) -> None:
    """Set a projection's LoRA: `scale` times B A is added to its weight."""
    for letter, values in zip("AB", factors, strict=True):
        cell = ms.nn.Cell()
        setattr(projection, f"lora_{letter}", cell)
        cell.weight = Parameter(Tensor(values), name=f"{name}.lora_{letter}.weight")
    projection.lora_scale = scale
