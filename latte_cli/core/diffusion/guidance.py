"""Classifier-free guidance (Ho & Salimans 2022)."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from latte_cli.core.diffusion.samplers import Model
from latte_cli.core.diffusion.schedule import FloatArray, IntArray

Condition: TypeAlias = npt.NDArray[Any]
ConditionalModel: TypeAlias = Callable[[FloatArray, IntArray, Condition], FloatArray]
"""(x_t, timesteps, condition (B, ...)) -> (B, F, C or 2C, h, w)."""


def guided(
    model: ConditionalModel, condition: Condition, null_condition: Condition, guidance_scale: float
) -> Model:
    """A model of x_t and timesteps, told `condition` and led away from `null_condition`, both (B, ...).

    eps = null + guidance_scale * (conditional - null), from one forward pass over twice the rows; the
    variance is the conditional one. A scale of 1 is the conditional model itself, at no extra cost.
    """

    def conditional(x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        return model(x_t, timesteps, condition)

    def combined(x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        both = np.concatenate([condition, null_condition])
        output = model(np.concatenate([x_t, x_t]), np.concatenate([timesteps, timesteps]), both)
        told, untold = np.split(np.asarray(output), 2)
        channels = x_t.shape[2]
        eps = untold[:, :, :channels] + guidance_scale * (told[:, :, :channels] - untold[:, :, :channels])
        return np.concatenate([eps, told[:, :, channels:]], axis=2)

    return conditional if guidance_scale == 1 else combined
