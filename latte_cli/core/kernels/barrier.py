"""A barrier for the workers of this machine, sleeping on a counter in shared memory."""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.kernels.build import library_path
from latte_cli.core.kernels.selection import kernels_available
from latte_cli.core.kernels.signal import SLICE_SECONDS


def open_barrier(count: NDArray[np.uint32], workers: int) -> Callable[[], None] | None:
    """A function that returns once all workers have called it; None without the compiled kernels.

    count: one number in shared memory. No worker may call it before all have opened it.
    """
    if not kernels_available():
        return None
    target = int(count[0])

    def meet() -> None:
        nonlocal target
        target = (target + workers) % 2**32
        _library().latte_arrive(count.ctypes.data, target)
        while not _library().latte_await(count.ctypes.data, target, SLICE_SECONDS):
            pass

    return meet


@cache
def _library() -> Any:
    library = ctypes.CDLL(str(library_path()))
    library.latte_arrive.restype = None
    library.latte_arrive.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.latte_await.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_double)
    return library
