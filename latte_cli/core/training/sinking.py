"""Data sinking: MindSpore copies the inputs of the next passes to the device while it computes.

Follows MindSpore's documentation, **untested on Ascend and GPU**: a CPU has no such queue.
https://www.mindspore.cn/docs/en/stable/api_python/mindspore/mindspore.data_sink.html
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import mindspore as ms
from mindspore.dataset import GeneratorDataset
from numpy.typing import NDArray

Arrays: TypeAlias = tuple[NDArray[Any], ...]


class Feed:
    """The inputs of `number` passes for a GeneratorDataset, which may iterate several times from the start.

    `make` starts from the first on each call. Inputs that are prefetched but not used are drawn again by a
    resumed run.
    """

    def __init__(self, make: Callable[[], Iterator[Arrays]], number: int):
        self.make, self.number = make, number

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[Arrays]:
        for inputs, _ in zip(self.make(), range(self.number), strict=False):
            yield inputs


def queue(
    function: Callable[..., object],
    make: Callable[[], Iterator[Arrays]],
    names: Sequence[str],
    number: int,
) -> Callable[[], Any]:
    """A function that calls `function` with the next of `number` inputs, which wait on the device.

    names: one for each array of the inputs.
    """
    dataset = GeneratorDataset(
        Feed(make, number),
        list(names),
        shuffle=False,
        num_parallel_workers=1,
        python_multiprocessing=False,
    )
    return ms.data_sink(function, dataset, sink_size=1)
