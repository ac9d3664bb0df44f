"""Read NumPy arrays from a pickle of nested dictionaries as data (see `pickles`)."""

import math
from typing import Any

import numpy as np

from latte_cli.core.checkpoints.dtypes import DTYPES, FLOATS, Bits
from latte_cli.core.checkpoints.formats.pickles import Described, Known, read_pickle
from latte_cli.core.checkpoints.formats.trees import leaves
from latte_cli.core.checkpoints.limits import MAX_DIMENSIONS, RefusedError

_ARRAY, _DTYPE = "numpy.ndarray", "numpy.dtype"
# Keyed by NumPy's type code, such as "f4".
_FLOATS = {DTYPES[name].bits.str[1:]: DTYPES[name].bits for name in FLOATS if name != "bfloat16"}
_UNKNOWN = "its pickle describes an array in an unknown way"


def looks_like(mapped: memoryview) -> bool:
    """Whether a file starts as a pickle of protocol 2 or later."""
    return bytes(mapped[:1]) == b"\x80"


def read_arrays(mapped: memoryview) -> dict[str, Bits]:
    """The float arrays by their path, "a/b/c"; other objects are ignored.

    The pickle may refer to NumPy's `_reconstruct`, `ndarray` and `dtype` only. Raises RefusedError for any
    other name and for a damaged or too large pickle.
    """
    content, end = read_pickle(mapped, 0, table=_TABLE, persistent=_no_storage)
    if end != len(mapped):
        raise RefusedError("contains more than its pickle: it is damaged or joined to another file")
    return {
        name: _array(item)
        for name, item in leaves(content)
        if isinstance(item, Described) and item.name == _ARRAY
    }


def _array(described: Described) -> Bits:
    """The array that `ndarray.__setstate__` would restore: (version, shape, type, order, bytes)."""
    state = described.state
    if type(state) is not tuple or len(state) != 5:
        raise RefusedError(_UNKNOWN)
    _, shape, dtype, by_columns, content = state
    if type(shape) is not tuple or len(shape) > MAX_DIMENSIONS or type(content) is not bytes:
        raise RefusedError(_UNKNOWN)
    if not all(type(size) is int and 0 <= size < 1 << 48 for size in shape):
        raise RefusedError("an array has an invalid shape")
    bits = _bits(dtype)
    if len(content) != math.prod(shape) * bits.itemsize:
        raise RefusedError(f"an array of shape {shape} has {len(content)} bytes")
    return np.frombuffer(content, bits).reshape(shape, order="F" if by_columns is True else "C")


def _bits(dtype: object) -> np.dtype[Any]:
    """The type `dtype("f4", ...)`; its state must say little-endian."""
    if not isinstance(dtype, Described) or dtype.name != _DTYPE or not dtype.arguments:
        raise RefusedError(_UNKNOWN)
    code, state = dtype.arguments[0], dtype.state
    bits = _FLOATS.get(code) if isinstance(code, str) else None
    if bits is None or type(state) is not tuple or len(state) < 2 or state[1] != "<":
        raise RefusedError("its arrays are not little-endian floats")
    return bits


def _no_storage(_: object) -> object:
    raise RefusedError("its pickle refers to a storage, which arrays do not use")


_TABLE = {
    "numpy.core.multiarray._reconstruct": Known(
        "numpy.core.multiarray._reconstruct", lambda _: Described(_ARRAY)
    ),
    _ARRAY: Known(_ARRAY),
    _DTYPE: Known(_DTYPE, lambda arguments: Described(_DTYPE, arguments)),
}
