"""The compiled heart of training: noise the latents, predict the noise, and differentiate the loss."""

from typing import NamedTuple

import mindspore as ms
from mindspore import Tensor, ops

from latte_cli.core.diffusion.gaussian import q_sample
from latte_cli.core.diffusion.losses import training_loss
from latte_cli.core.models.building import Transformer
from latte_cli.core.training.inputs import StepInputs
from latte_cli.core.waiting import Compiled


class Losses(NamedTuple):
    """A pass's loss and its two parts, means over its clips."""

    loss: float
    mse: float
    vb: float


class GradientStep:
    """The forward and backward pass: inputs to losses and gradients.

    It compiles at the first call, for shapes that must not change afterwards.
    """

    def __init__(self, model: Transformer):
        parameters = ms.ParameterTuple(model.trainable_params())
        learn_sigma = model.shape.learn_sigma

        def scaled_loss(x_start, eps, timesteps, columns, condition, scale):  # type: ignore[no-untyped-def]
            output = model(q_sample(x_start, eps, columns), timesteps, condition)
            loss, mse, vb = training_loss(output, x_start, eps, columns, learn_sigma=learn_sigma)
            loss, mse, vb = loss.mean(), mse.mean(), vb.mean()
            return loss * scale, loss, mse, vb

        differentiate = ms.value_and_grad(scaled_loss, None, parameters, has_aux=True)

        def gradient_step(x_start, eps, timesteps, columns, condition, scale):  # type: ignore[no-untyped-def]
            (_, *losses), gradients = differentiate(x_start, eps, timesteps, columns, condition, scale)
            return (losses, gradients), gradients[0]  # of the first layer: the end of the way back

        self._compiled = Compiled(gradient_step)

    def __call__(self, inputs: StepInputs, scale: float = 1.0) -> tuple[Losses, tuple[Tensor, ...]]:
        """Losses, free of `scale`, and the gradients of the loss times `scale`."""
        return self.on_tensors(tuple(map(Tensor, inputs)), scale)

    def on_tensors(self, inputs: tuple[Tensor, ...], scale: float = 1.0) -> tuple[Losses, tuple[Tensor, ...]]:
        """The same of inputs that are on the device already."""
        losses, gradients = self._compiled(*inputs, Tensor(scale, ms.float32))
        # Mutable: a plain tuple of tensors is a constant to the next compiled function, which compiles anew.
        return Losses(*(float(loss.asnumpy()) for loss in losses)), ms.mutable(gradients)


@ms.jit
def add_gradients(sums, gradients):  # type: ignore[no-untyped-def]
    """Gradients (one tensor a parameter, in a mutable tuple) added pair by pair."""
    return tuple([sums[place] + gradients[place] for place in range(len(sums))])


@ms.jit
def global_norm(gradients):  # type: ignore[no-untyped-def]
    """Root of the sum of the squares of all gradients: a float32 scalar."""
    squares = [ops.ReduceSum()(ops.square(gradient)) for gradient in gradients]
    return ops.sqrt(ops.addn(squares))
