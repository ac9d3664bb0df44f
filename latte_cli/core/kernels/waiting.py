"""Functions of arrays: compiled, whose callers sleep until the results are there, or computed at once."""

from collections.abc import Callable
from typing import Any, TypeAlias

import mindspore as ms
import numpy as np
from mindspore import Tensor

from latte_cli.core.interrupts import keep_ctrl_c
from latte_cli.core.kernels import signal
from latte_cli.core.kernels.selection import kernels_available

Function: TypeAlias = Callable[..., tuple[Any, Any]]
"""From arrays to (results, last): `last` is the one among them that is computed last."""


class Compiled:
    """A function under `ms.jit`, compiled at the first call for shapes that must not change afterwards.

    On a CPU MindSpore waits for results by spinning, which takes a core from the threads that compute them;
    here the caller sleeps until the function says that it is done.
    """

    def __init__(self, function: Function):
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


class Inference:
    """A function without a gradient. With the compiled kernels it runs as it is, on NumPy's arrays: compiling
    it would take seconds, and gain nothing. Without them it is `Compiled`.

    Results are arrays or tensors, to be given back as inputs, or read with `np.asarray`.
    """

    def __init__(self, function: Function):
        self._function = function
        self._compiled = None if kernels_available() else Compiled(function)

    def __call__(self, *inputs: Any) -> Any:
        """The results of NumPy's arrays, or of earlier results."""
        if self._compiled is None:
            return self._function(*inputs)[0]
        return self._compiled(*[Tensor(one) if isinstance(one, np.ndarray) else one for one in inputs])
