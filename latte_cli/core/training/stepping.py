"""How a run does its optimizer steps: on a CPU with the compiled kernels, elsewhere as one graph.

A CPU's results are known after each step. A device works on while the host prepares the next steps; the
host waits for it only to read the results of the steps since the last reading.
"""

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from mindspore import Tensor

from latte_cli.core.kernels import optimizer as kernels
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.parallel.collective import Collective
from latte_cli.core.settings.training import TrainSettings
from latte_cli.core.training.inputs import StepInputs
from latte_cli.core.training.one_graph import OneGraph, pass_numbers
from latte_cli.core.training.optimizer import average_decay, clip_factor, learning_rate
from latte_cli.core.training.precision import LossScale
from latte_cli.core.training.sharding import Optimizer
from latte_cli.core.training.sinking import Arrays, queue
from latte_cli.core.training.step import Done, Gradients, GradientStep, Losses

Inputs = Callable[[], Iterator[StepInputs]]
"""Gives the inputs of the passes to come, from the same one at every call."""


class Steps(Protocol):
    """The optimizer steps of a run, in turn."""

    reads_all: bool
    """Whether every step is read before the next one is taken."""

    def start(self, inputs: Inputs, first: int, scale: LossScale) -> None:
        """Take the steps from `first` on, counted from 0."""

    def take(self, step: int, scale: LossScale) -> None:
        """Start a step. `scale` is the loss scale after the steps that have been read."""

    def read(self) -> list[Done]:
        """The results of the steps taken since the last reading, in their order."""

    def close(self) -> None:
        """Take no more inputs."""


class HostSteps:
    """Steps whose gradients are added up, clipped and applied on the host, in MindSpore's memory."""

    reads_all = True

    def __init__(
        self, model: Transformer, optimizer: Optimizer, train: TrainSettings, *, collective: Collective
    ):
        self.optimizer, self.train, self.collective = optimizer, train, collective
        self.gradients = GradientStep(model)
        self._stream: Iterator[StepInputs] = iter(())
        self._done: list[Done] = []

    def start(self, inputs: Inputs, first: int, scale: LossScale) -> None:
        self._stream = inputs()

    def take(self, step: int, scale: LossScale) -> None:
        train = self.train
        losses, gradients = self._accumulate(scale.value)
        divisor = scale.value * train.accumulation
        norm = kernels.global_norm(gradients) / divisor
        overflow = scale.dynamic and math.isfinite(losses.loss) and not math.isfinite(norm)
        if math.isfinite(losses.loss + norm):
            taken = step - scale.dropped
            self.optimizer.apply(
                gradients,
                taken,
                rate=learning_rate(train, step),
                average=average_decay(train, taken),
                factor=clip_factor(train, step, norm=norm) / divisor,
            )
        self._done.append(Done(losses, norm, overflow=overflow))

    def read(self) -> list[Done]:
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        close(self._stream)

    def _accumulate(self, scale: float) -> tuple[Losses, Gradients]:
        """Means over workers of the losses, and of the scaled gradients accumulated over a step's passes."""
        passes: list[Losses] = []
        total: Gradients = []
        for _ in range(self.train.accumulation):
            losses, gradients = self.gradients(next(self._stream), scale)
            if passes:
                kernels.accumulate(total, gradients)
            else:
                total = gradients
            passes.append(losses)
        means = [sum(values) / len(passes) for values in zip(*passes, strict=True)]
        if self.collective.world.size > 1:
            numbers = np.array(means, np.float32)
            self.collective.average([numbers, *total])  # at once: workers wait for each other
            means = numbers.tolist()
        return Losses(*means), total


class DeviceSteps:
    """Steps of `OneGraph`, with inputs from the device's queue if `sinks`."""

    reads_all = False

    def __init__(self, graph: OneGraph, *, sinks: bool):
        self.graph, self.sinks = graph, sinks
        self._taken: list[int] = []

    def start(self, inputs: Inputs, first: int, scale: LossScale) -> None:
        train = self.graph.train
        self.graph.start(scale)

        def numbered() -> Iterator[Arrays]:
            stream = inputs()
            try:
                for number, one in enumerate(stream, first * train.accumulation):
                    yield *one, pass_numbers(train, *divmod(number, train.accumulation))
            finally:
                close(stream)

        if self.sinks:
            passes = (train.steps - first) * train.accumulation
            names = (*StepInputs._fields, "numbers")
            self._stream: Iterator[Arrays] = iter(())
            self._next = queue(self.graph, numbered, names, passes)
            return
        stream = self._stream = numbered()
        self._next = lambda: self.graph(*map(Tensor, next(stream)))

    def take(self, step: int, scale: LossScale) -> None:
        for _ in range(self.graph.train.accumulation):
            self._next()
        self._taken.append(step)

    def read(self) -> list[Done]:
        if not self._taken:
            return []
        steps, self._taken = self._taken, []
        return self.graph.read(steps)

    def close(self) -> None:
        close(self._stream)


def close(stream: Iterator[object]) -> None:
    """Close a generator."""
    if hasattr(stream, "close"):
        stream.close()
