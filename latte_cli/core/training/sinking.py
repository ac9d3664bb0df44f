"""Data sinking: MindSpore copies the inputs of the next steps to the device during computation.

Follows MindSpore's documentation, **untested on Ascend and GPU**: a CPU has no such queue.
https://www.mindspore.cn/docs/en/stable/api_python/mindspore/mindspore.data_sink.html
"""

from collections.abc import Callable, Iterator
from typing import Any

import mindspore as ms
from mindspore import Tensor
from mindspore.dataset import GeneratorDataset

from latte_cli.core.training.inputs import StepInputs
from latte_cli.core.training.step import GradientStep, Losses


class Feed:
    """`number` step inputs for a GeneratorDataset, which may iterate several times from the beginning.

    `make` starts from the beginning on each call. Inputs that are prefetched but not used are drawn again by
    a resumed run.
    """

    def __init__(self, make: Callable[[], Iterator[StepInputs]], number: int):
        self.make, self.number = make, number

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for inputs, _ in zip(self.make(), range(self.number), strict=False):
            yield tuple(inputs)


class SunkStep:
    """`GradientStep` with inputs from a feed, one per call."""

    def __init__(self, gradients: GradientStep, feed: Feed):
        self._scale = 1.0
        dataset = GeneratorDataset(
            feed,
            list(StepInputs._fields),
            shuffle=False,
            num_parallel_workers=1,
            python_multiprocessing=False,
        )

        def take(*inputs: Tensor) -> tuple[Losses, tuple[Tensor, ...]]:
            return gradients.on_tensors(inputs, self._scale)

        # One at a time: the loss scale of a step depends on the previous step.
        self._take = ms.data_sink(take, dataset, sink_size=1)

    def __call__(self, scale: float) -> tuple[Losses, tuple[Tensor, ...]]:
        """Losses and scaled gradients of the next inputs."""
        self._scale = scale
        return self._take()
