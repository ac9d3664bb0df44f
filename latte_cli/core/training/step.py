"""The compiled part of a training step: add noise, predict it, and compute the loss's gradients."""

from typing import NamedTuple, TypeAlias

import mindspore as ms
from mindspore import Tensor, ops

from latte_cli.core.diffusion.gaussian import q_sample
from latte_cli.core.diffusion.losses import training_loss
from latte_cli.core.kernels import optimizer
from latte_cli.core.kernels.waiting import Compiled
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.training.inputs import StepInputs

Gradients: TypeAlias = tuple[Tensor, ...]
"""One tensor per trained parameter, in a mutable tuple: in compiled functions plain ones are constants."""


class Losses(NamedTuple):
    """The loss of a pass and its two parts, as means over clips."""

    loss: float
    mse: float
    vb: float


class GradientStep:
    """The forward and backward pass: maps inputs to losses and gradients.

    Compiled on the first call; shapes must not change.
    """

    def __init__(self, model: Transformer):
        parameters = ms.ParameterTuple(model.trainable_params())
        # The backward pass finishes at the timestep embedder, to whose gradients every block adds.
        names = [parameter.name for parameter in parameters]
        last = next((i for i, name in enumerate(names) if name.startswith(model.timestep_embedder)), 0)
        learn_sigma = model.learn_sigma

        def scaled_loss(x_start, eps, timesteps, columns, condition, scale):  # type: ignore[no-untyped-def]
            output = model(q_sample(x_start, eps, columns), timesteps, condition)
            loss, mse, vb = training_loss(output, x_start, eps, columns, learn_sigma=learn_sigma)
            loss, mse, vb = loss.mean(), mse.mean(), vb.mean()
            return loss * scale, loss, mse, vb

        differentiate = ms.value_and_grad(scaled_loss, None, parameters, has_aux=True)

        def gradient_step(x_start, eps, timesteps, columns, condition, scale):  # type: ignore[no-untyped-def]
            (_, *losses), gradients = differentiate(x_start, eps, timesteps, columns, condition, scale)
            return (losses, gradients), gradients[last]

        self._compiled = Compiled(gradient_step)

    def __call__(self, inputs: StepInputs, scale: float = 1.0) -> tuple[Losses, Gradients]:
        """Losses, without `scale`, and the gradients of the loss times `scale`."""
        return self.on_tensors(tuple(map(Tensor, inputs)), scale)

    def on_tensors(self, inputs: tuple[Tensor, ...], scale: float = 1.0) -> tuple[Losses, Gradients]:
        """The same for inputs that are already on the device."""
        losses, gradients = self._compiled(*inputs, Tensor(scale, ms.float32))
        return Losses(*(float(loss.asnumpy()) for loss in losses)), ms.mutable(gradients)


def add_gradients(sums: Gradients, gradients: Gradients) -> Gradients:
    """Add gradients to `sums`; on a CPU in place."""
    if ms.get_context("device_target") == "CPU":
        optimizer.accumulate(sums, gradients)
        return sums
    return ms.mutable(_add(sums, gradients))


def global_norm(gradients: Gradients) -> float:
    """The L2 norm of all gradients."""
    if ms.get_context("device_target") == "CPU":
        return optimizer.global_norm(gradients)
    return float(_norm(gradients).asnumpy())


@ms.jit
def _add(sums, gradients):  # type: ignore[no-untyped-def]
    return tuple([sums[place] + gradients[place] for place in range(len(sums))])


@ms.jit
def _norm(gradients):  # type: ignore[no-untyped-def]
    return ops.sqrt(ops.addn([ops.ReduceSum()(ops.square(gradient)) for gradient in gradients]))
