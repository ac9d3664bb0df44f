"""AdamW, the learning-rate schedule, and the averaged weights (EMA) for sampling."""

from collections.abc import Callable, Iterable, Sequence
from math import cos, pi

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from latte_cli.core.arrays import Array
from latte_cli.core.kernels.optimizer import Buffers, adamw_ema
from latte_cli.core.settings.training import TrainSettings

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # PyTorch's defaults, used by the original
CLIP_EPSILON = 1e-6  # of PyTorch's clip_grad_norm_
LAST_CORRECTION = 20_000  # from this step on, the bias correction is 1 in float32


def learning_rate(settings: TrainSettings, step: int) -> float:
    """The learning rate of optimizer step `step`, from 0: linear warm-up from zero, then `schedule`."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    falls = {"constant": 1.0, "linear": 1.0 - progress, "cosine": (1.0 + cos(pi * progress)) / 2.0}
    return settings.learning_rate * max(0.0, falls[settings.schedule])


def average_decay(settings: TrainSettings, step: int) -> float:
    """The averaged weights' decay at `step`: (1 + step) / (10 + step), at most `ema_decay`."""
    return min(settings.ema_decay, (1 + step) / (10 + step))


def clips_at(settings: TrainSettings, step: int) -> bool:
    """Whether the gradients of `step` are clipped."""
    return settings.clip_norm is not None and step >= settings.clip_start


def clip_factor(settings: TrainSettings, step: int, *, norm: float) -> float:
    """The factor that clips gradients of norm `norm` to `clip_norm`, from step `clip_start`; else 1."""
    if settings.clip_norm is None or not clips_at(settings, step):
        return 1.0
    return min(1.0, settings.clip_norm / (norm + CLIP_EPSILON))


class AdamW:
    """AdamW as in PyTorch (Loshchilov & Hutter 2019), updating the averaged weights in the same pass.

    Moments and averages are float32 parameters, one per trained parameter. Weight decay applies to matrices
    only.
    """

    def __init__(self, parameters: Sequence[Parameter], *, weight_decay: float = 0.0):
        self.trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.means = [like(parameter, "mean", zero=True) for parameter in self.trained]
        self.squares = [like(parameter, "square", zero=True) for parameter in self.trained]
        self.averages = [like(parameter, "average") for parameter in self.trained]
        self.decays = tuple(weight_decay if parameter.ndim > 1 else 0.0 for parameter in self.trained)

    def averaged(self, parameters: Iterable[Parameter]) -> dict[str, Parameter]:
        """The averages of parameters by their names; those that are not trained are their own."""
        averages = zip(self.trained, self.averages, strict=True)
        return {p.name: p for p in parameters} | {trained.name: average for trained, average in averages}

    def state(self) -> dict[str, Parameter]:
        """The averages and moments by their names in a checkpoint."""
        tensors = zip(self.averages, self.means, self.squares, strict=True)
        return {
            name: tensor
            for parameter, three in zip(self.trained, tensors, strict=True)
            for name, tensor in zip(state_names(parameter.name), three, strict=True)
        }

    def collect(self) -> None:
        """Do nothing: all averages are here. See `ShardedAdamW.collect`."""

    def apply(
        self, gradients: Sequence[Array], step: int, *, rate: float, average: float, factor: float
    ) -> None:
        """Apply one step with `gradients` times `factor`; `average` is the decay of the averaged weights.

        In place, on a CPU. `step` counts from 0 and determines the bias correction.
        """
        buffers = Buffers(self.trained, self.means, self.squares, self.averages, self.decays)
        options = {"rate": rate, "average": average, "factor": factor, "epsilon": EPSILON}
        adamw_ema(buffers, gradients, step=step, betas=(BETA1, BETA2), **options)

    def in_graph(self, ema_decay: float) -> Callable[..., None]:
        """`apply` for devices: a function for compiled graphs, of (gradients, step, rate, factor, is_good).

        The last four are tensors of shape (): three of float32, and whether to change anything. This is not a
        branch of the graph, because the host would have to read the condition first. `ema_decay` as in
        `average_decay`.
        """
        corrections = Parameter(Tensor(_corrections()), name="corrections", requires_grad=False)
        trained, means, squares, averages = self.trained, self.means, self.squares, self.averages
        decays, no_power = self.decays, Tensor(0.0, ms.float32)

        def update(gradients, step, rate, factor, is_good):  # type: ignore[no-untyped-def]
            # In a step that is not good, gradients and rates are 0 and decays are 1.
            good, is_bad = is_good.astype(ms.float32), ops.logical_not(is_good)
            bad = 1.0 - good
            rate, betas = rate * good, (BETA1 * good + bad, BETA2 * good + bad)
            row = ops.minimum(step, ops.ones_like(step) * LAST_CORRECTION).astype(ms.int32)
            correction = ops.gather(corrections, row, 0)
            rate_of_adam, epsilon = rate * correction[0], EPSILON * correction[1]
            least = ops.ones_like(step) * ema_decay
            keep = ops.minimum((1.0 + step) / (10.0 + step), least) * good + bad
            fresh = ops.maximum(9.0 / (10.0 + step), ops.ones_like(step) * (1.0 - ema_decay)) * good
            for place in range(len(decays)):
                parameter, average = trained[place], averages[place]
                if decays[place] != 0.0:
                    ops.assign(parameter, parameter * (1.0 - rate * decays[place]))
                gradient = ops.masked_fill(gradients[place] * factor, is_bad, 0.0)
                moments = means[place], squares[place]
                powers = no_power, no_power  # leave the bias correction to rate and epsilon
                ops.Adam()(parameter, *moments, *powers, rate_of_adam, *betas, epsilon, gradient)
                ops.assign(average, average * keep + parameter * fresh)

        return update


def _corrections() -> Array:
    """Rows for every step up to LAST_CORRECTION: factors of the learning rate and of epsilon for ops.Adam.

    ops.Adam adds epsilon to the uncorrected root, PyTorch to the corrected one; these make them equal. The
    betas are those that float32 can hold, as in the operator.
    """
    powers = np.arange(1, LAST_CORRECTION + 2)
    corrected1, corrected2 = (1.0 - float(np.float32(beta)) ** powers for beta in (BETA1, BETA2))
    root = np.sqrt(corrected2)
    return np.stack([root / corrected1, root], axis=1).astype(np.float32)


def state_names(parameter: str) -> tuple[str, str, str]:
    """The names in a checkpoint of a parameter's average and its two moments."""
    return f"ema/{parameter}", f"optimizer/mean/{parameter}", f"optimizer/square/{parameter}"


def like(parameter: Parameter, purpose: str, *, zero: bool = False) -> Parameter:
    """A float32 copy of a parameter for a purpose, of zeros or of its values."""
    values = np.zeros(parameter.shape, np.float32) if zero else parameter.asnumpy().copy()
    return Parameter(Tensor(values), name=f"{purpose}.{parameter.name}", requires_grad=False)
