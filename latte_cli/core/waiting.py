"""Waiting for compiled functions without taking a core from them."""

import time

import mindspore as ms
from mindspore import Tensor
from numpy.typing import NDArray

SHARE_ASLEEP = 0.8  # of the time that such a call took lately
MEMORY = 0.9  # how much of the average is kept from call to call
LONGEST = 10.0  # seconds: a call that compiled says nothing about the next


class Waiter:
    """Fetches results of one compiled function: asleep for most of the time that it takes, then waiting.

    On a CPU MindSpore waits by spinning, and two cores that compute while a third thread spins are one and a
    third.
    """

    def __init__(self) -> None:
        self.on_cpu = ms.get_context("device_target") == "CPU"
        self.seconds = 0.0

    def fetch(self, result: Tensor) -> NDArray:  # type: ignore[type-arg]
        """The result as an array; call it right after the function that gives it."""
        start = time.perf_counter()
        if self.on_cpu:
            time.sleep(SHARE_ASLEEP * self.seconds)
        values = result.asnumpy()
        taken = min(time.perf_counter() - start, LONGEST)
        self.seconds = MEMORY * self.seconds + (1 - MEMORY) * taken
        return values
