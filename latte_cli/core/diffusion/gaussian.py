"""The Gaussians of the diffusion process, as arithmetic on latents (B, F, C, h, w)."""

from typing import Any, Literal, NamedTuple

import numpy as np

from latte_cli.core.diffusion.schedule import NOISE, SIGNAL, Coefficients, FloatArray

Target = Literal["eps", "x_start"]


class Prediction(NamedTuple):
    """A model's p(x_{t-1} | x_t) = N(mean, variance), and the clean latents it sees in x_t."""

    mean: FloatArray
    variance: FloatArray
    log_variance: FloatArray
    x_start: FloatArray


def q_sample(x_start: Any, eps: Any, columns: Any) -> Any:
    """Noise `x_start`: x_t = sqrt(abar_t) x_start + sqrt(1 - abar_t) eps (Ho et al. 2020, eq. 4).

    NumPy arrays or MindSpore tensors, all three alike; columns: (B, 7) of `Schedule.training_columns`.
    """
    signal = columns[:, SIGNAL].reshape(-1, 1, 1, 1, 1)
    noise = columns[:, NOISE].reshape(-1, 1, 1, 1, 1)
    return signal * x_start + noise * eps


def x_start_from_eps(x_t: FloatArray, eps: FloatArray, at: Coefficients) -> FloatArray:
    """The clean latents that `eps` would have turned into `x_t` (Ho et al. 2020, eq. 4 solved for x_0)."""
    return at.sqrt_recip_alphas_cumprod * x_t - at.sqrt_recipm1_alphas_cumprod * eps


def eps_from_x_start(x_t: FloatArray, x_start: FloatArray, at: Coefficients) -> FloatArray:
    """The noise that would have turned `x_start` into `x_t`: the inverse of `x_start_from_eps`."""
    return (at.sqrt_recip_alphas_cumprod * x_t - x_start) / at.sqrt_recipm1_alphas_cumprod


def posterior_mean(x_start: FloatArray, x_t: FloatArray, at: Coefficients) -> FloatArray:
    """Mean of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, eq. 7); its variance is in the tables."""
    return at.posterior_mean_coef1 * x_start + at.posterior_mean_coef2 * x_t


def learned_log_variance(values: FloatArray, at: Coefficients) -> FloatArray:
    """Posterior log-variance to log beta, as `values` go from -1 to 1 (Nichol & Dhariwal 2021, eq. 15)."""
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
    """Read a model's output at `x_t` as one step back.

    output: (B, F, 2C, h, w), the second half a learned variance, or (B, F, C, h, w), when the variance is
    `fixed_variance`: beta or the posterior's (Ho et al. 2020, section 3.2). target: what the model was
    trained to predict. clip_denoised keeps the clean latents in [-1, 1].
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
    """A variance that is not learned, and its logarithm: (B, 1, 1, 1, 1) both."""
    if which == "large":
        return at.fixed_large_variance, np.log(at.fixed_large_variance)
    return at.posterior_variance, at.posterior_log_variance_clipped
