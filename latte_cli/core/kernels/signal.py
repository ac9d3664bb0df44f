"""Knowing when a compiled function is done without asking MindSpore, which on a CPU waits by spinning."""

import ctypes
import time
from functools import cache
from itertools import count
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops

from latte_cli.core.kernels import fused
from latte_cli.core.kernels.build import library_path
from latte_cli.core.kernels.selection import kernels_available, use_fused

SLICE_SECONDS = 0.2  # of sleep at a time, so that Ctrl-C is heard
LONGEST_SECONDS = 60.0  # then MindSpore is asked after all: a function that failed never announces itself

_channels = count()


def new_channel() -> int:
    """Give a number for `announce` that nothing else in this process uses."""
    return next(_channels)


def announce(last: Tensor, channel: int) -> Tensor:
    """Raise a channel's count once `last` is computed; to be among what a compiled function returns."""
    if use_fused():
        return fused.announce()(last, _channel(channel))
    return last


def announced(channel: int) -> int:
    """Give how often a channel was raised so far."""
    return int(_library().latte_announced(channel)) if kernels_available() else 0


def wait(channel: int, seen: int) -> None:
    """Sleep until a channel was raised more often than `seen`; without the kernels return at once."""
    if not kernels_available():
        return
    end = time.monotonic() + LONGEST_SECONDS
    while not _library().latte_wait(channel, seen, SLICE_SECONDS) and time.monotonic() < end:
        pass


@cache
def _channel_tensor(channel: int) -> Tensor:
    return ms.Tensor([channel], ms.int64)


_channel: Any = ops.constexpr(_channel_tensor, reuse_result=False)


@cache
def _library() -> Any:
    library = ctypes.CDLL(str(library_path()))
    library.latte_announced.restype = ctypes.c_int64
    library.latte_announced.argtypes = (ctypes.c_int64,)
    library.latte_wait.argtypes = (ctypes.c_int64, ctypes.c_int64, ctypes.c_double)
    return library
