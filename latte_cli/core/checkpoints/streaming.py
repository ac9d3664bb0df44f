"""A tensor's bytes in pieces, rounded to another type on the way, so that writing needs little memory."""

import math
from collections.abc import Iterator

import numpy as np

from latte_cli.core.checkpoints.dtypes import DTYPES, FLOATS, Bits, Dtype, cast, widen
from latte_cli.core.checkpoints.limits import RefusedError, shown
from latte_cli.core.checkpoints.tensors import Tensor

_ELEMENTS = 1 << 20  # a piece: stays in the processor's cache while it is checked, rounded and written


def stored_dtype(tensor: Tensor, requested: str | None) -> Dtype:
    """The type a tensor is written as: `requested` for floats, where given, else its own."""
    return DTYPES[requested] if requested and tensor.dtype.name in FLOATS else tensor.dtype


def stored_nbytes(tensor: Tensor, requested: str | None) -> int:
    """Bytes that `pieces` will give."""
    return math.prod(tensor.shape) * stored_dtype(tensor, requested).bits.itemsize


def pieces(name: str, tensor: Tensor, *, requested: str | None, finite: bool) -> Iterator[memoryview]:
    """The tensor's bytes in row-major order, little-endian, as `stored_dtype`.

    finite: raise RefusedError, naming the tensor, at the first infinity or NaN, its own or one that rounding
    makes.
    """
    dtype = stored_dtype(tensor, requested)
    flat = tensor.bits().reshape(-1)
    for start in range(0, flat.size, _ELEMENTS):
        piece = flat[start : start + _ELEMENTS]
        if finite and not _all_finite(piece, tensor.dtype):
            raise RefusedError(f"{shown(name)} holds an infinity or NaN")
        rounded = cast(piece, tensor.dtype, dtype)
        if finite and rounded is not piece and not _all_finite(rounded, dtype):
            raise RefusedError(f"{shown(name)} holds numbers too large for {dtype.name}")
        yield np.ascontiguousarray(rounded).data.cast("B")


def _all_finite(bits: Bits, dtype: Dtype) -> bool:
    """Whether no number is infinite or NaN. A finite sum proves it, and is twice as fast to get as an answer
    each."""
    if dtype.name not in FLOATS:
        return True
    numbers = widen(bits, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.add.reduce(numbers)) or np.isfinite(numbers).all())
