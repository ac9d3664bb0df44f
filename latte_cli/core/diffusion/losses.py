"""The training loss of a diffusion model, with MindSpore operators that have CPU kernels and gradients."""

from math import log, pi
from typing import Literal

import mindspore as ms
from mindspore import Tensor, ops

from latte_cli.core.diffusion.gaussian import Target
from latte_cli.core.diffusion.schedule import (
    EPS_IN_STDS,
    HALF_LEVEL_IN_STDS,
    IS_FIRST,
    LOG_VARIANCE_RANGE,
    X_START_IN_STDS,
)

Kind = Literal["mse", "rescaled_mse", "kl", "rescaled_kl"]

OUTERMOST = 0.999  # larger values belong to the first or last level, which extends to infinity
LEAST_PROBABILITY = 1e-12  # lower bound before taking the logarithm


def training_loss(
    model_output: Tensor,
    x_start: Tensor,
    eps: Tensor,
    columns: Tensor,
    *,
    learn_sigma: bool = True,
    kind: Kind = "mse",
    target: Target = "eps",
    num_timesteps: int = 1000,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, mean squared error and variational bound in bits per dimension, each (B,) float32.

    "mse" adds the bound to the error, with gradients for the variance only (Nichol & Dhariwal 2021, eq. 16);
    without `learn_sigma` it is the error and the bound is 0. "kl" is the bound. The rescaled kinds multiply
    the bound by num_timesteps / 1000 and by num_timesteps. model_output: (B, F, 2C or C, h, w); columns: (B,
    7) from `Schedule.training_columns`.
    """
    channels = x_start.shape[2]
    clean = _rows(x_start)
    difference = _rows(model_output[:, :, :channels]) - (clean if target == "x_start" else _rows(eps))
    mse = (difference * difference).mean(1)
    if kind in ("mse", "rescaled_mse"):
        if not learn_sigma:
            return mse, mse, ops.zeros_like(mse)
        difference = ops.stop_gradient(difference)
    in_stds = X_START_IN_STDS if target == "x_start" else EPS_IN_STDS
    distance = _column(columns, in_stds, clean) * difference
    excess = _column(columns, LOG_VARIANCE_RANGE, clean)
    if learn_sigma:
        excess = excess * ((_rows(model_output[:, :, channels:]) + 1) * 0.5)
    else:
        excess = excess * (1 - _column(columns, IS_FIRST, clean))
    bound = variational_bound(distance, excess, clean, columns)
    if kind == "mse":
        return mse + bound, mse, bound
    if kind == "rescaled_mse":
        bound = bound * (num_timesteps / 1000)
        return mse + bound, mse, bound
    return bound * (num_timesteps if kind == "rescaled_kl" else 1), mse, bound


def variational_bound(distance: Tensor, excess: Tensor, clean: Tensor, columns: Tensor) -> Tensor:
    """A step's term of the bound in bits per dimension, (B,): KL to the posterior, or likelihood at step 0.

    Inputs (B, N). distance: posterior mean minus the model's, in posterior standard deviations; excess: the
    model's log-variance minus the posterior's; clean: x_0 (Ho et al. 2020, eq. 5). Both terms are computed
    for every row, since shapes are static.
    """
    spread = distance * distance
    shrink = _expm1(-excess)
    divergence = ((excess + shrink + spread * (1 + shrink)) * 0.5).mean(1)
    inverse_std = _exp(-0.5 * excess)
    half_level = _column(columns, HALF_LEVEL_IN_STDS, clean)
    upper = inverse_std * (distance + half_level)
    lower = inverse_std * (distance - half_level)
    likelihood = level_log_likelihood(clean, lower, upper).mean(1)
    return ops.select(columns[:, IS_FIRST] > 0.5, -likelihood, divergence) / log(2.0)


def level_log_likelihood(clean: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Log-probability of the level of `clean`, between two deviates (Ho et al. 2020, eq. 13)."""
    below_upper = ops.select(clean > OUTERMOST, ops.ones_like(clean), normal_cdf(upper))
    below_lower = ops.select(clean < -OUTERMOST, ops.zeros_like(clean), normal_cdf(lower))
    return _log(ops.clamp(below_upper - below_lower, LEAST_PROBABILITY, None))


def normal_cdf(z: Tensor) -> Tensor:
    """The standard normal CDF, approximated by a tanh as in the original (Page 1977).

    Rounded to float32 and then differentiated, as in PyTorch: in the tails, where the difference of two
    values is a few roundings, the original's loss and gradient consist of these.
    """
    angle = (2 / pi) ** 0.5 * (z + 0.044715 * (z * z * z))
    tanh = ops.stop_gradient(ops.cast(ops.tanh(_precise(angle)), ms.float32))
    return 0.5 * (1 + _with_slope(tanh, angle, 1 - tanh * tanh))


def _log(x: Tensor) -> Tensor:
    held = ops.stop_gradient(x)
    return _with_slope(ops.cast(ops.log(_precise(held)), ms.float32), x, 1 / held)


def _exp(x: Tensor) -> Tensor:
    value = ops.stop_gradient(ops.cast(ops.exp(_precise(x)), ms.float32))
    return _with_slope(value, x, value)


def _expm1(x: Tensor) -> Tensor:
    value = ops.stop_gradient(ops.cast(ops.expm1(_precise(x)), ms.float32))
    return _with_slope(value, x, value + 1)


def _with_slope(value: Tensor, x: Tensor, slope: Tensor) -> Tensor:
    """`value`, with derivative `slope` with respect to x."""
    return value + slope * (x - ops.stop_gradient(x))


def _precise(x: Tensor) -> Tensor:
    """Cast for tanh, exp, expm1 or log: MindSpore's float32 versions are inaccurate on a CPU.

    See docs/accuracy.md; in float64 they are accurate to float32's last digit.
    """
    held = ops.stop_gradient(x)
    return ops.cast(held, ms.float64) if _on_cpu() else held


@ops.constexpr(reuse_result=False)  # type: ignore[untyped-decorator]
def _on_cpu() -> bool:
    return bool(ms.get_context("device_target") == "CPU")


def _rows(latents: Tensor) -> Tensor:
    """Latents (B, F, C, h, w) as float32 (B, N)."""
    return ops.cast(latents, ms.float32).reshape(latents.shape[0], -1)


def _column(columns: Tensor, place: int, rows: Tensor) -> Tensor:
    """One column broadcast to the shape of `rows` (B, N); implicit broadcasting is much slower on a CPU."""
    return ops.broadcast_to(columns[:, place].reshape(-1, 1), rows.shape)
