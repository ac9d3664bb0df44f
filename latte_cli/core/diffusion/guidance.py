"""Classifier-free guidance (Ho & Salimans 2022)."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from latte_cli.core.diffusion.samplers import Model
from latte_cli.core.diffusion.schedule import FloatArray, IntArray

Condition: TypeAlias = npt.NDArray[Any]
ConditionalModel: TypeAlias = Callable[[Condition], Model]
"""condition (B, ...) -> a model told that, of as many rows: what there is to read of it is read once."""


def guided(
    model: ConditionalModel, condition: Condition, null_condition: Condition, guidance_scale: float
) -> Model:
    """A model of x_t and timesteps, told `condition` and led away from `null_condition`, both (B, ...).

    eps = null + guidance_scale * (conditional - null), from one forward pass over twice the rows; the
    variance is the conditional one. A scale of 1 is the conditional model itself, at no extra cost.
    """

    if guidance_scale == 1:
        return model(condition)
    both = model(np.concatenate([condition, null_condition]))

    def combined(x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        output = both(np.concatenate([x_t, x_t]), np.concatenate([timesteps, timesteps]))
        told, untold = np.split(np.asarray(output), 2)
        channels = x_t.shape[2]
        eps = untold[:, :, :channels] + guidance_scale * (told[:, :, :channels] - untold[:, :, :channels])
        return np.concatenate([eps, told[:, :, channels:]], axis=2)

    return combined
