"""The compiled part of a training step: add noise, predict it, and compute the loss's gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import mindspore as ms
from mindspore import Tensor

from latte_cli.core.arrays import Array
from latte_cli.core.diffusion.gaussian import q_sample
from latte_cli.core.diffusion.losses import training_loss
from latte_cli.core.kernels.waiting import Compiled
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.training.inputs import StepInputs

Gradients: TypeAlias = list[Array]
"""One array per trained parameter, of its shape, that may be changed in place."""


class Losses(NamedTuple):
    """The loss of a pass and its two parts, as means over clips."""

    loss: float
    mse: float
    vb: float


@dataclass(frozen=True)
class Done:
    """The results of an optimizer step."""

    losses: Losses
    grad_norm: float
    overflow: bool
    """Whether the step was skipped because gradients of the scaled loss are not finite."""


def differentiated(model: Transformer) -> tuple[Callable[..., Any], list[str]]:
    """A function for compiled graphs, and the names of the parameters of its gradients.

    It maps a step's inputs and the loss scale to ((scaled loss, loss, mse, vb), gradients of the scaled
    loss).
    """
    parameters = ms.ParameterTuple(model.trainable_params())
    learn_sigma = model.learn_sigma

    def scaled_loss(x_start, eps, timesteps, columns, condition, scale):  # type: ignore[no-untyped-def]
        output = model(q_sample(x_start, eps, columns), timesteps, condition)
        loss, mse, vb = training_loss(output, x_start, eps, columns, learn_sigma=learn_sigma)
        loss, mse, vb = loss.mean(), mse.mean(), vb.mean()
        return loss * scale, loss, mse, vb

    names = [parameter.name for parameter in parameters]
    return ms.value_and_grad(scaled_loss, None, parameters, has_aux=True), names


class GradientStep:
    """The forward and backward pass: maps inputs to losses and gradients.

    Compiled on the first call; shapes must not change. On a CPU; see one_graph.py for other devices.
    """

    def __init__(self, model: Transformer):
        differentiate, names = differentiated(model)
        # The backward pass finishes at the timestep embedder, to whose gradients every block adds.
        last = next((i for i, name in enumerate(names) if name.startswith(model.timestep_embedder)), 0)

        def gradient_step(x_start, eps, timesteps, columns, condition, scale):  # type: ignore[no-untyped-def]
            (_, *losses), gradients = differentiate(x_start, eps, timesteps, columns, condition, scale)
            return (losses, gradients), gradients[last]

        self._compiled = Compiled(gradient_step)

    def __call__(self, inputs: StepInputs, scale: float = 1.0) -> tuple[Losses, Gradients]:
        """Losses, without `scale`, and the gradients of the loss times `scale`."""
        losses, gradients = self._compiled(*map(Tensor, inputs), Tensor(scale, ms.float32))
        numbers = [gradient.asnumpy() for gradient in gradients]  # MindSpore's memory, which they keep
        return Losses(*(float(loss.asnumpy()) for loss in losses)), numbers
