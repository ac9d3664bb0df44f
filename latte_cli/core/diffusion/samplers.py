"""Samplers for any callable model, on the host, that yield every step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from latte_cli.core.diffusion.gaussian import Prediction, eps_from_x_start, predict
from latte_cli.core.diffusion.schedule import Coefficients, FloatArray, IntArray, Schedule

Model: TypeAlias = Callable[[FloatArray, IntArray], FloatArray]
"""Maps x_t (B, F, C, h, w) and training timesteps (B,) to eps and optional variance (B, F, C or 2C, h, w)."""
Noise: TypeAlias = Callable[[int], FloatArray]
"""Maps a step's index to standard normal noise of x_t's shape; called only for steps that use it."""


@dataclass(frozen=True)
class Step:
    """Result of one step, 0 to total - 1: `x_t` after it, and the predicted clean latents."""

    index: int
    total: int
    timestep: int
    x_t: FloatArray
    x_start: FloatArray


@dataclass(frozen=True)
class Place:
    """The inputs of a sampler's step from `place` in `schedule` to the one before it."""

    schedule: Schedule
    place: int
    x_t: FloatArray
    at: Coefficients
    prediction: Prediction
    last_x_start: FloatArray | None


Rule: TypeAlias = Callable[[Place, Callable[[], FloatArray], float], FloatArray]
"""A sampler: maps (place, noise, eta) to x_t of the previous place, see `walk`."""


def ddpm(here: Place, noise: Callable[[], FloatArray], eta: float) -> FloatArray:
    """Sample from the model's p(x_{t-1} | x_t) (Ho et al. 2020, algorithm 2)."""
    if here.place == 0:
        return here.prediction.mean
    return here.prediction.mean + np.exp(0.5 * here.prediction.log_variance) * noise()


def ddim(here: Place, noise: Callable[[], FloatArray], eta: float) -> FloatArray:
    """A DDIM step with `eta` times ddpm's noise (Song et al. 2021, eq. 12)."""
    at, x_start = here.at, here.prediction.x_start
    eps = eps_from_x_start(here.x_t, x_start, at)  # recomputed, because the clean latents may be clipped
    before = at.alphas_cumprod_prev
    std = eta * np.sqrt((1 - before) / (1 - at.alphas_cumprod)) * np.sqrt(1 - at.alphas_cumprod / before)
    x_t = np.sqrt(before) * x_start + np.sqrt(1 - before - std**2) * eps
    return x_t + std * noise() if eta > 0 and here.place > 0 else x_t


def ddim_reverse(here: Place) -> FloatArray:
    """A deterministic ddim step in reverse, towards noise (Dhariwal & Nichol 2021, appendix F)."""
    eps = eps_from_x_start(here.x_t, here.prediction.x_start, here.at)
    after = here.at.alphas_cumprod_next
    return np.sqrt(after) * here.prediction.x_start + np.sqrt(1 - after) * eps


def dpm_solver(here: Place, noise: Callable[[], FloatArray], eta: float) -> FloatArray:
    """DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095, algorithm 2): second order, deterministic.

    The first and the last step between two noise levels are of first order: the first has no previous step;
    the last, with evenly spaced timesteps, is too long in log-SNR for extrapolation. From the lowest noise
    level it steps to the clean latents.
    """
    tables, place, x_start = here.schedule.tables, here.place, here.prediction.x_start
    if place == 0:
        return x_start
    signal, sigma = tables.sqrt_alphas_cumprod, tables.sqrt_one_minus_alphas_cumprod
    log_snr = np.log(signal / sigma)
    length = log_snr[place - 1] - log_snr[place]
    direction = x_start
    if here.last_x_start is not None and place > 1:
        ahead = float(length / (log_snr[place] - log_snr[place + 1]) / 2)
        direction = (1 + ahead) * x_start - ahead * here.last_x_start
    shrink = float(sigma[place - 1] / sigma[place])
    return shrink * here.x_t - float(signal[place - 1] * np.expm1(-length)) * direction


def walk(
    rule: Rule,
    model: Model,
    x_t: FloatArray,
    schedule: Schedule,
    noise: Noise,
    *,
    eta: float = 0.0,
    clip_denoised: bool = False,
) -> Iterator[Step]:
    """Apply `rule` from pure noise through the complete schedule, with one model evaluation per step.

    x_t: (B, F, C, h, w) standard normal; its dtype is used throughout. eta is for ddim only. clip_denoised
    clips the predicted clean latents to [-1, 1].
    """
    x_start = None
    for index in range(schedule.num_timesteps):
        place = schedule.num_timesteps - 1 - index
        rows = np.full(len(x_t), place)
        at = schedule.at(rows, x_t.dtype)
        output = np.asarray(model(x_t, schedule.timestep_map[rows]), x_t.dtype)
        prediction = predict(output, x_t, at, clip_denoised=clip_denoised)
        here = Place(schedule, place, x_t, at, prediction, x_start)
        x_t, x_start = rule(here, partial(noise, index), eta), prediction.x_start
        yield Step(index, schedule.num_timesteps, int(schedule.timestep_map[place]), x_t, x_start)


SAMPLERS: dict[str, Rule] = {"ddpm": ddpm, "ddim": ddim, "dpm++": dpm_solver}
