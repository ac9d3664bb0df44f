"""A training step as one graph, for Ascend and GPU: the host waits for the device only to read results.

One function computes forward and backward pass, accumulation, means over the workers, loss scale, clipping,
AdamW and the averaged weights. What the host does not know before a step (whether it overflows) is kept on
the device, with a row of results for each step since the last reading.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, amp, ops

from latte_cli.core.arrays import Array
from latte_cli.core.kernels.waiting import Compiled
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.settings.training import TrainSettings
from latte_cli.core.training.optimizer import CLIP_EPSILON, clips_at, learning_rate
from latte_cli.core.training.precision import GOOD_STEPS_TO_GROW, LARGEST_SCALE, LossScale
from latte_cli.core.training.sharding import Optimizer
from latte_cli.core.training.step import Done, Losses, differentiated

Means: TypeAlias = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""For use in a graph: the means of tensors over the workers."""
SCALE, GOOD_STEPS, DROPPED, FAILED = range(4)  # places in `OneGraph.counts`
STEP, RATE, CLIPS, FIRST, LAST, ROW = range(6)  # places in `pass_numbers`
OVERFLOW = 4  # place in a row of results, after three losses and the norm of the gradients


def pass_numbers(train: TrainSettings, step: int, place: int) -> Array:
    """The inputs of pass `place` of step `step`, both from 0, that the host knows: (6,) float32.

    In the order of STEP, RATE, CLIPS, FIRST, LAST, ROW: the step, the learning rate, whether gradients are
    clipped, whether the pass is the first and the last one of its step, and the row for the step's results.
    """
    numbers = (
        step,
        learning_rate(train, step),
        clips_at(train, step),
        place == 0,
        place == train.accumulation - 1,
        step % train.log_every,
    )
    return np.array(numbers, np.float32)


class OneGraph:
    """The passes of a model's training steps. Compiled on the first call; shapes must not change."""

    def __init__(
        self, model: Transformer, optimizer: Optimizer, train: TrainSettings, *, means: Means | None = None
    ):
        """`means`: with several workers."""
        self.train = train
        self.counts = _zeros("counts", (4,))
        self.rows = _zeros("rows", (train.log_every, OVERFLOW + 1))
        self._compiled = Compiled(self._one_pass(model, optimizer, means), level=train.jit_level)

    def start(self, scale: LossScale) -> None:
        """Continue with this loss scale."""
        counts = (scale.value, scale.good_steps, scale.dropped, 0)
        ops.assign(self.counts, Tensor(np.array(counts, np.float32)))

    def __call__(self, *tensors: Tensor) -> None:
        """Start a pass, without waiting for it, on the tensors of `StepInputs` and `pass_numbers`."""
        self._compiled(*tensors)

    def read(self, steps: Sequence[int]) -> list[Done]:
        """Wait for steps, the last ones and at most `train.log_every`, and return their results."""
        rows = self.rows.asnumpy()
        found = [[float(number) for number in rows[step % self.train.log_every]] for step in steps]
        return [Done(Losses(*row[:3]), row[3], overflow=row[OVERFLOW] > 0) for row in found]

    def _one_pass(self, model: Transformer, optimizer: Optimizer, means: Means | None) -> Callable[..., Any]:
        counts, passes = self.counts, self.train.accumulation
        differentiate, _ = differentiated(model)
        finish = self._last_part(optimizer, means)
        trained = optimizer.trained if passes > 1 else []
        sums = [_zeros(f"sum.{parameter.name}", parameter.shape) for parameter in trained]
        loss_sums = _zeros("sum.losses", (3,))

        def one_pass(x_start, eps, timesteps, columns, condition, numbers):  # type: ignore[no-untyped-def]
            scale = counts[SCALE]
            (_, *losses), gradients = differentiate(x_start, eps, timesteps, columns, condition, scale)
            losses = ops.stack(losses)
            if passes == 1:
                last = finish(gradients, losses, numbers)
                return last, last
            is_first = numbers[FIRST] > 0.0
            totals = [_add(sums[place], gradients[place], is_first) for place in range(len(sums))]
            losses = _add(loss_sums, losses, is_first)
            last = losses[0]
            if numbers[LAST] > 0.0:
                last = finish(totals, losses / passes, numbers)
            return last, last

        return one_pass

    def _last_part(self, optimizer: Optimizer, means: Means | None) -> Callable[..., Any]:
        """The end of a step, from summed gradients to updated weights."""
        train, counts, rows = self.train, self.counts, self.rows
        dynamic = LossScale.for_dtype(train.dtype).dynamic
        clip_norm = train.clip_norm or 0.0
        update = optimizer.in_graph(train.ema_decay)
        # The first Ascend 910 saturates instead of overflowing, which MindSpore's function takes from its
        # status register.
        asks_device = dynamic and ms.get_context("device_target") == "Ascend"
        places = Tensor(np.arange(train.log_every, dtype=np.float32)[:, None])

        def last_part(gradients, losses, numbers):  # type: ignore[no-untyped-def]
            saturated = ops.zeros((1,), ms.float32)
            if asks_device:
                saturated = saturated + 1.0 - amp.all_finite(gradients).astype(ms.float32)
            if means is not None:
                shared = means([ops.concat((losses, saturated)), *gradients])
                losses, saturated, gradients = shared[0][:3], shared[0][3:], shared[1:]
            inverse = 1.0 / (counts[SCALE] * train.accumulation)
            squares = [ops.ReduceSum()(ops.square(gradient * inverse)) for gradient in gradients]
            norm = ops.sqrt(ops.addn(squares))
            going = ops.logical_and(ops.isfinite(losses[0]), counts[FAILED] == 0.0)
            finite = ops.logical_and(ops.isfinite(norm), saturated[0] == 0.0)
            is_good = ops.logical_and(going, finite)
            overflow = ops.logical_and(going, ops.logical_not(finite)).astype(ms.float32)
            if not dynamic:
                overflow = ops.zeros_like(overflow)
            factor = inverse
            if clip_norm > 0.0:
                clipped = ops.minimum(clip_norm / (norm + CLIP_EPSILON), ops.ones_like(norm))
                factor = inverse * (clipped * numbers[CLIPS] + 1.0 - numbers[CLIPS])
            update(gradients, numbers[STEP] - counts[DROPPED], numbers[RATE], factor, is_good)
            row = ops.stack((losses[0], losses[1], losses[2], norm, overflow))
            is_row = ops.broadcast_to(places == numbers[ROW], rows.shape)
            ops.assign(rows, ops.select(is_row, ops.broadcast_to(row, rows.shape), rows))
            ops.assign(counts, _counts_after(counts, is_good.astype(ms.float32), overflow, dynamic))
            return losses[0]

        return last_part


def _counts_after(counts: Tensor, good: Tensor, overflow: Tensor, dynamic: bool) -> Tensor:
    """`LossScale.after`, and whether the run has failed; for use in a graph."""
    scale, streak = counts[SCALE], counts[GOOD_STEPS]
    if dynamic:
        streak = (streak + good) * (1.0 - overflow)
        grows = (streak == GOOD_STEPS_TO_GROW).astype(ms.float32)
        largest = ops.ones_like(scale) * LARGEST_SCALE
        scale = (scale + grows * (ops.minimum(scale * 2.0, largest) - scale)) * (1.0 - overflow / 2.0)
        streak = streak * (1.0 - grows)
    return ops.stack((scale, streak, counts[DROPPED] + overflow, 1.0 - good - overflow))


def _add(total: Parameter, values: Tensor, is_first: Tensor) -> Tensor:
    """Add to a sum over the passes of a step, or start it; for use in a graph."""
    added = ops.select(ops.broadcast_to(is_first, total.shape), values, total + values)
    ops.assign(total, added)
    return added


def _zeros(name: str, shape: tuple[int, ...]) -> Parameter:
    return Parameter(Tensor(np.zeros(shape, np.float32)), name=name, requires_grad=False)
