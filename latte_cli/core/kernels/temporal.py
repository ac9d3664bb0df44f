"""The temporal half of a video decoder's block, as a compiled in-place kernel."""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.kernels.build import library_path


def temporal_block(
    frames: Sequence[Array], weights: Sequence[Array], *, groups: int, eps: float, share: float
) -> None:
    """Add share * conv(silu(norm(conv(silu(norm(frames)))))) to frames of one shape (1, C, H, W), in place.

    Norms are over groups of channels of all frames, convolutions over three frames with zero padding.
    weights: scale (C), shift (C), filter (C, C, 3) and bias (C), twice; weights and frames are contiguous
    float32.
    """
    channels, pixels = frames[0].shape[1], frames[0].shape[2] * frames[0].shape[3]
    sizes = (len(frames), channels, pixels, groups)
    _kernel()(_pointers(frames), _pointers(weights), *sizes, eps, share)


def _pointers(arrays: Sequence[Array]) -> Any:
    for array in arrays:
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert array.flags.writeable
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


@cache
def _kernel() -> Any:
    kernel = ctypes.CDLL(str(library_path())).latte_temporal_block
    pointers = ctypes.POINTER(ctypes.c_void_p)
    kernel.argtypes = (pointers, pointers, *[ctypes.c_int64] * 4, ctypes.c_float, ctypes.c_float)
    kernel.restype = None
    return kernel
