"""Wait for a compiled function to finish without MindSpore, which waits by spinning on a CPU."""

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

SLICE_SECONDS = 0.2  # maximum sleep, so that Ctrl-C is handled
LONGEST_SECONDS = 60.0  # then wait with MindSpore after all: a failed function never signals

_channels = count()


def new_channel() -> int:
    """A channel number for `announce` that is unique in this process."""
    return next(_channels)


def announce(last: Tensor, channel: int) -> Tensor:
    """Increment a channel's count once `last` is computed; must be among the function's results."""
    if use_fused():
        return fused.announce()(last, _channel(channel))
    return last


def announced(channel: int) -> int:
    """The count of a channel."""
    return int(_library().latte_announced(channel)) if kernels_available() else 0


def wait(channel: int, seen: int) -> None:
    """Sleep until a channel's count exceeds `seen`; without the kernels return at once."""
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
