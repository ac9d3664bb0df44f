"""Data types: one set of names, their names in each file format, and exact rounding between them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.generic]


class Dtype(NamedTuple):
    """A data type; `bits` is the NumPy type its bytes are read as (uint16 for bfloat16, unknown to NumPy)."""

    name: str
    bits: np.dtype[np.generic]
    torch: str | None
    safetensors: str | None
    mindspore: str | None


_ROWS = [
    ("float32", "<f4", "Float", "F32", "Float32"),
    ("float16", "<f2", "Half", "F16", "Float16"),
    ("bfloat16", "<u2", "BFloat16", "BF16", "BFloat16"),
    ("float64", "<f8", "Double", "F64", "Float64"),
    ("int64", "<i8", "Long", "I64", "Int64"),
    ("int32", "<i4", "Int", "I32", "Int32"),
    ("int16", "<i2", "Short", "I16", "Int16"),
    ("int8", "i1", "Char", "I8", "Int8"),
    ("uint8", "u1", "Byte", "U8", "UInt8"),
    ("bool", "?", "Bool", "BOOL", "Bool"),
    ("uint16", "<u2", None, "U16", "UInt16"),
    ("uint32", "<u4", None, "U32", "UInt32"),
    ("uint64", "<u8", None, "U64", "UInt64"),
    ("complex64", "<c8", "ComplexFloat", "C64", None),
    ("complex128", "<c16", "ComplexDouble", None, None),
    # Types that weights never have but that other entries of a file may have.
    ("qint8", "i1", "QInt8", None, None),
    ("quint8", "u1", "QUInt8", None, None),
    ("qint32", "<i4", "QInt32", None, None),
    ("float8_e4m3fn", "u1", None, "F8_E4M3", None),
    ("float8_e5m2", "u1", None, "F8_E5M2", None),
]
DTYPES = {row[0]: Dtype(row[0], np.dtype(row[1]), *row[2:]) for row in _ROWS}
FLOATS = ("float32", "float16", "bfloat16", "float64")

TORCH_STORAGES = {f"{dtype.torch}Storage": dtype for dtype in DTYPES.values() if dtype.torch}
TORCH_NAMES = {name: DTYPES[name] for name in DTYPES} | {
    "float": DTYPES["float32"],
    "half": DTYPES["float16"],
    "double": DTYPES["float64"],
    "long": DTYPES["int64"],
    "int": DTYPES["int32"],
    "short": DTYPES["int16"],
}
SAFETENSORS_NAMES = {dtype.safetensors: dtype for dtype in DTYPES.values() if dtype.safetensors}
MINDSPORE_NAMES = {dtype.mindspore: dtype for dtype in DTYPES.values() if dtype.mindspore}


def dtype_of(array: Bits) -> Dtype:
    """The data type of a NumPy array. Raises KeyError for a type that weights files do not contain."""
    return DTYPES[array.dtype.name]


def widen(bits: Bits, dtype: Dtype) -> Bits:
    """Convert bfloat16 to float32 with the same values; return other types unchanged."""
    if dtype.name != "bfloat16":
        return bits
    words = np.asarray(bits).astype(np.uint32)
    np.left_shift(words, np.uint32(16), out=words)
    return words.view(np.float32)


def cast(bits: Bits, dtype: Dtype, requested: Dtype) -> Bits:
    """Convert between float types, rounding each number once, to nearest, ties to even.

    Numbers too large for `requested` become infinite.
    """
    if dtype == requested:
        return bits
    numbers = widen(bits, dtype)
    if requested.name == "bfloat16":
        return _round_to_bfloat16(numbers)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return numbers.astype(requested.bits)


def _round_to_bfloat16(numbers: Bits) -> Bits:
    words = _round_to_odd(numbers).view(np.uint32)
    half_up = np.uint32(0x7FFF) + ((words >> np.uint32(16)) & np.uint32(1))
    with np.errstate(over="ignore"):
        rounded = ((words + half_up) >> np.uint32(16)).astype(np.uint16)
    # The carry would turn some NaNs into numbers: they keep their upper half and get a quiet bit.
    not_a_number = np.isnan(numbers)
    if not_a_number.any():
        rounded[not_a_number] = (words[not_a_number] >> np.uint32(16)).astype(np.uint16) | np.uint16(0x40)
    return rounded


def _round_to_odd(numbers: Bits) -> npt.NDArray[np.float32]:
    """Round to float32 to odd, so that a second rounding is exact (Boldo and Melquiond 2008)."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        single: npt.NDArray[np.float32] = numbers.astype(np.float32)
        if numbers.dtype != np.float64:
            return single
        words = single.view(np.uint32).copy()
        words[np.abs(single) > np.abs(numbers)] -= np.uint32(1)
        words[words.view(np.float32) != numbers] |= np.uint32(1)
    finite = np.isfinite(single)
    return np.where(finite, words.view(np.float32), single)
