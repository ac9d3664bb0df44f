"""Functions of arrays: compiled (callers sleep until the results are computed), or run directly on NumPy."""

from collections.abc import Callable
from typing import Any, TypeAlias

import mindspore as ms
import numpy as np
from mindspore import Tensor

from latte_cli.core.kernels import signal
from latte_cli.core.kernels.selection import kernels_available
from latte_cli.core.machine.interrupts import keep_ctrl_c

Function: TypeAlias = Callable[..., tuple[Any, Any]]
"""Maps arrays to (results, last); `last` is the result that is computed last."""


class Compiled:
    """A function under `ms.jit`, compiled on the first call; input shapes must not change.

    On a CPU MindSpore waits for results by spinning, which takes a core from the computing threads; here the
    caller sleeps until the function signals.
    """

    def __init__(self, function: Function, *, level: str = "O0"):
        """`level`: MindSpore's jit_level."""
        self._channel = channel = signal.new_channel()

        def run(*inputs):  # type: ignore[no-untyped-def]
            results, last = function(*inputs)
            return results, signal.announce(last, channel)

        # MindSpore identifies functions by name and line: it would take two of the same name for one.
        run.__name__ = function.__name__
        self._run = ms.jit(run, jit_level=level)

    def __call__(self, *inputs: Any) -> Any:
        """Compute the results."""
        seen = signal.announced(self._channel)
        results, _ = self._run(*inputs)
        signal.wait(self._channel, seen)
        keep_ctrl_c()
        return results


class Inference:
    """A function without gradients: run on NumPy arrays if there are compiled kernels, else `Compiled`.

    Compiling a graph would take seconds and would not be faster.

    Results are arrays or tensors, which can be used as inputs or read with `np.asarray`.
    """

    def __init__(self, function: Function):
        self._function = function
        self._compiled = None if kernels_available() else Compiled(function)

    def __call__(self, *inputs: Any) -> Any:
        """Compute the results for NumPy arrays or earlier results."""
        if self._compiled is None:
            return self._function(*inputs)[0]
        return self._compiled(*[Tensor(one) if isinstance(one, np.ndarray) else one for one in inputs])
