"""Split a tensor's bytes into pieces and round them to another type, so that writing needs little memory."""

import math
from collections.abc import Iterator

import numpy as np

from latte_cli.core.checkpoints.dtypes import DTYPES, FLOATS, Bits, Dtype, cast, widen
from latte_cli.core.checkpoints.limits import RefusedError, shown
from latte_cli.core.checkpoints.tensors import Tensor

_ELEMENTS = 1 << 20  # per piece: fits the processor's cache while it is checked, rounded and written


def stored_dtype(tensor: Tensor, requested: str | None) -> Dtype:
    """The type in which a tensor is written: `requested` for floats if given, else its own."""
    return DTYPES[requested] if requested and tensor.dtype.name in FLOATS else tensor.dtype


def stored_nbytes(tensor: Tensor, requested: str | None) -> int:
    """Total bytes that `pieces` yields."""
    return math.prod(tensor.shape) * stored_dtype(tensor, requested).bits.itemsize


def pieces(name: str, tensor: Tensor, *, requested: str | None, finite: bool) -> Iterator[memoryview]:
    """The tensor's bytes in row-major order, little-endian, as `stored_dtype`.

    The pages of its file are given back at the end.

    finite: raise RefusedError, naming the tensor, for an infinity or NaN, its own or a result of rounding.
    """
    dtype = stored_dtype(tensor, requested)
    flat = tensor.bits().reshape(-1)
    for start in range(0, flat.size, _ELEMENTS):
        piece = flat[start : start + _ELEMENTS]
        if finite and not _all_finite(piece, tensor.dtype):
            raise RefusedError(f"{shown(name)} contains an infinity or NaN")
        rounded = cast(piece, tensor.dtype, dtype)
        if finite and rounded is not piece and not _all_finite(rounded, dtype):
            raise RefusedError(f"{shown(name)} contains numbers too large for {dtype.name}")
        yield np.ascontiguousarray(rounded).data.cast("B")
    tensor.release()


def _all_finite(bits: Bits, dtype: Dtype) -> bool:
    """Whether all numbers are finite. A finite sum proves it, twice as fast as testing each number."""
    if dtype.name not in FLOATS:
        return True
    numbers = widen(bits, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.add.reduce(numbers)) or np.isfinite(numbers).all())
