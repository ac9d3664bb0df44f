"""Compiled functions whose callers sleep until the results are there."""

from collections.abc import Callable
from typing import Any

import mindspore as ms

from latte_cli.core.interrupts import keep_ctrl_c
from latte_cli.core.kernels import signal


class Compiled:
    """A function under `ms.jit`, compiled at the first call for shapes that must not change afterwards.

    On a CPU MindSpore waits for results by spinning, which takes a core from the threads that compute them;
    here the caller sleeps until the function says that it is done. `function` returns (results, last): `last`
    is the tensor among them that is computed last.
    """

    def __init__(self, function: Callable[..., tuple[Any, Any]]):
        self._channel = channel = signal.new_channel()

        def run(*inputs):  # type: ignore[no-untyped-def]
            results, last = function(*inputs)
            return results, signal.announce(last, channel)

        # MindSpore knows functions by name and line: two of one name, it says, are one compiled again.
        run.__name__ = function.__name__
        self._run = ms.jit(run)

    def __call__(self, *inputs: Any) -> Any:
        """The results, computed."""
        seen = signal.announced(self._channel)
        results, _ = self._run(*inputs)
        signal.wait(self._channel, seen)
        keep_ctrl_c()
        return results
