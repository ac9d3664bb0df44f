"""LoRA: low-rank adaptation of a transformer's projections (Hu et al. 2021, arXiv 2106.09685).

A projection's weight W becomes W + alpha / rank * B A; only A (rank, inputs) and B (outputs, rank) are
trained. MindONE's peft supports only MindSpore's own layers. `checkpoints.lora` reads and writes LoRA files.
"""

from collections.abc import Callable, Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor

from latte_cli.core.arrays import Array
from latte_cli.core.checkpoints.lora import Lora
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.rng import Stream, draw

FIRST_PLACE = 1 << 20  # of the random streams, after those of the transformer's parameters


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
    factors, alphas = {}, {}
    for name, projection in model.lora_targets():
        if projection.lora_scale:
            pair = (projection.lora_A.weight, projection.lora_B.weight)
            a, b = (
                parameter.asnumpy() if parameters is None else parameters[parameter.name]
                for parameter in pair
            )
            factors[name], alphas[name] = (a, b), projection.lora_scale * len(a)
    return Lora(factors, alphas)


def set_factors(projection: Any, name: str, factors: tuple[Array, Array], scale: float) -> None:
    """Set a projection's LoRA: `scale` times B A is added to its weight."""
    for letter, values in zip("AB", factors, strict=True):
        cell = ms.nn.Cell()
        setattr(projection, f"lora_{letter}", cell)
        cell.weight = Parameter(Tensor(values), name=f"{name}.lora_{letter}.weight")
    projection.lora_scale = scale
