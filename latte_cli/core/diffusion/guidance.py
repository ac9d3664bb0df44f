"""Classifier-free guidance (Ho & Salimans 2022)."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from latte_cli.core.diffusion.reuse import ReusableModel
from latte_cli.core.diffusion.samplers import Model
from latte_cli.core.diffusion.schedule import FloatArray, IntArray

Condition: TypeAlias = npt.NDArray[Any]
ConditionalModel: TypeAlias = Callable[[Condition], ReusableModel]
"""Maps a condition (B, ...) to a model for batches of B rows, so that conditions are embedded only once."""


def guided(
    model: ConditionalModel,
    condition: Condition,
    null_condition: Condition,
    guidance_scale: float,
    *,
    every: int = 1,
) -> ReusableModel:
    """Classifier-free guidance: a model guided to `condition`, away from `null_condition`, both (B, ...).

    eps = null + guidance_scale * (conditional - null), from one forward pass over twice the rows; the
    variance is the conditional one. A scale of 1 is the conditional model itself, at no extra cost.

    every: compute both branches only in every `every`-th full evaluation, starting with the first. The others
    compute the conditional branch and add the last guidance difference. An evaluation that
    reuses the blocks' change computes the same branches as the last full one.
    """
    if guidance_scale == 1:
        return model(condition)
    return _Guided(model, condition, null_condition, guidance_scale, every=every)


class _Guided:
    """See `guided`. For one clip only, since it counts evaluations."""

    def __init__(
        self,
        model: ConditionalModel,
        condition: Condition,
        null_condition: Condition,
        guidance_scale: float,
        *,
        every: int,
    ):
        self._both = model(np.concatenate([condition, null_condition]))
        self._conditional = self._both if every == 1 else model(condition)
        self._scale, self._every = guidance_scale, every
        self._evaluations = 0  # in full
        self._guidance: FloatArray = np.zeros(0)  # added to the conditional branch last

    def __call__(self, x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        return self._combined(self._next_branch(), x_t, timesteps)

    def keep(self, x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        return self._combined(self._next_branch().keep, x_t, timesteps)

    def reuse(self, x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        return self._combined(self._branch.reuse, x_t, timesteps)

    def _next_branch(self) -> ReusableModel:
        self._has_both = self._evaluations % self._every == 0
        self._branch = self._both if self._has_both else self._conditional
        self._evaluations += 1
        return self._branch

    def _combined(self, model: Model, x_t: FloatArray, timesteps: IntArray) -> FloatArray:
        channels = x_t.shape[2]
        if not self._has_both:
            output = np.asarray(model(x_t, timesteps))
            return np.concatenate([output[:, :, :channels] + self._guidance, output[:, :, channels:]], axis=2)
        output = np.asarray(model(np.concatenate([x_t, x_t]), np.concatenate([timesteps, timesteps])))
        conditional, unconditional = np.split(output, 2)
        eps = unconditional[:, :, :channels] + self._scale * (
            conditional[:, :, :channels] - unconditional[:, :, :channels]
        )
        if self._every > 1:
            self._guidance = eps - conditional[:, :, :channels]
        return np.concatenate([eps, conditional[:, :, channels:]], axis=2)
