"""The Gaussian distributions of the diffusion process, on latents (B, F, C, h, w)."""

from typing import Any, Literal, NamedTuple

import numpy as np

from latte_cli.core.diffusion.schedule import NOISE, SIGNAL, Coefficients, FloatArray

Target = Literal["eps", "x_start"]


class Prediction(NamedTuple):
    """A model's p(x_{t-1} | x_t) = N(mean, variance), and its prediction of the clean latents."""

    mean: FloatArray
    variance: FloatArray
    log_variance: FloatArray
    x_start: FloatArray


def q_sample(x_start: Any, eps: Any, columns: Any) -> Any:
    """Noise `x_start`: x_t = sqrt(abar_t) x_start + sqrt(1 - abar_t) eps (Ho et al. 2020, eq. 4).

    All three NumPy arrays or all MindSpore tensors; columns: (B, 7) from `Schedule.training_columns`.
    """
    signal = columns[:, SIGNAL].reshape(-1, 1, 1, 1, 1)
    noise = columns[:, NOISE].reshape(-1, 1, 1, 1, 1)
    return signal * x_start + noise * eps


def x_start_from_eps(x_t: FloatArray, eps: FloatArray, at: Coefficients) -> FloatArray:
    """The clean latents for noise `eps` in `x_t` (Ho et al. 2020, eq. 4 solved for x_0)."""
    return at.sqrt_recip_alphas_cumprod * x_t - at.sqrt_recipm1_alphas_cumprod * eps


def eps_from_x_start(x_t: FloatArray, x_start: FloatArray, at: Coefficients) -> FloatArray:
    """The noise in `x_t` for clean latents `x_start`: the inverse of `x_start_from_eps`."""
    return (at.sqrt_recip_alphas_cumprod * x_t - x_start) / at.sqrt_recipm1_alphas_cumprod


def posterior_mean(x_start: FloatArray, x_t: FloatArray, at: Coefficients) -> FloatArray:
    """Mean of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, eq. 7); its variance is in the tables."""
    return at.posterior_mean_coef1 * x_start + at.posterior_mean_coef2 * x_t


def learned_log_variance(values: FloatArray, at: Coefficients) -> FloatArray:
    """From posterior log-variance to log beta, by `values` in [-1, 1] (Nichol & Dhariwal 2021, eq. 15)."""
    share = (values + 1) / 2
    return share * at.log_betas + (1 - share) * at.posterior_log_variance_clipped


def predict(
    output: FloatArray,
    x_t: FloatArray,
    at: Coefficients,
    *,
    target: Target = "eps",
    fixed_variance: Literal["large", "small"] = "large",
    clip_denoised: bool = False,
) -> Prediction:
    """Convert a model's output at `x_t` to the distribution of the previous step.

    output: (B, F, 2C, h, w), with a learned variance in the second half, or (B, F, C, h, w) with the variance
    `fixed_variance`: beta or the posterior's (Ho et al. 2020, section 3.2). target: the quantity that the
    model predicts. clip_denoised clips the clean latents to [-1, 1].
    """
    channels = x_t.shape[2]
    mean_output, values = output[:, :, :channels], output[:, :, channels:]
    x_start = mean_output if target == "x_start" else x_start_from_eps(x_t, mean_output, at)
    if clip_denoised:
        x_start = np.clip(x_start, -1, 1)
    variance, log_variance = fixed_variances(at, fixed_variance)
    if values.shape[2]:
        log_variance = learned_log_variance(values, at)
        variance = np.exp(log_variance)
    shape = x_t.shape
    return Prediction(
        posterior_mean(x_start, x_t, at),
        np.broadcast_to(variance, shape),
        np.broadcast_to(log_variance, shape),
        x_start,
    )


def fixed_variances(at: Coefficients, which: Literal["large", "small"]) -> tuple[FloatArray, FloatArray]:
    """A fixed variance and its logarithm, both (B, 1, 1, 1, 1)."""
    if which == "large":
        return at.fixed_large_variance, np.log(at.fixed_large_variance)
    return at.posterior_variance, at.posterior_log_variance_clipped
