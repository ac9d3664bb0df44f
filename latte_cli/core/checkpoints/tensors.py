"""Tensors that are read from their file on demand."""

import math
import mmap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from latte_cli.core.checkpoints.dtypes import Bits, Dtype, dtype_of
from latte_cli.core.checkpoints.limits import MAX_DIMENSIONS, MAX_REPEATED_ELEMENTS, RefusedError, shown
from latte_cli.core.errors import LatteError

Shape = tuple[int, ...]


class Tensor(Protocol):
    """Numbers of one type and shape, in a file or in memory."""

    @property
    def dtype(self) -> Dtype: ...

    @property
    def shape(self) -> Shape: ...

    def bits(self) -> Bits:
        """The numbers in row-major order, as `dtype.bits`; memory-mapped if the file has this order, else a
        copy."""
        ...

    def release(self) -> None:
        """Release the memory of mapped numbers; they are read again on access."""
        ...


def map_file(path: Path) -> memoryview:
    """Map a file's bytes read-only. Raises LatteError if it is not a readable file or is empty."""
    if not path.exists():
        raise LatteError(f"{path}: no such file")
    if not path.is_file():
        raise LatteError(f"{path}: found something other than a file, expected a weights file")
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise LatteError(f"{path}: is empty (0 bytes)")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise LatteError(f"{path}: cannot be read: {error.strerror or error}") from error


@dataclass
class Storage:
    """Bytes shared by tensors: consecutive pieces of a mapped file, and their CRC-32."""

    path: Path
    label: str
    mapped: memoryview
    pieces: Sequence[tuple[int, int]] = ()
    crc: int | None = None
    _checked: bool = field(default=False, init=False)

    @property
    def nbytes(self) -> int:
        return sum(end - start for start, end in self.pieces)

    def bytes(self) -> memoryview:
        """All bytes; the first call verifies the checksum. Raises LatteError if it does not match."""
        if len(self.pieces) == 1:
            content = self.mapped[slice(*self.pieces[0])]
        else:
            content = memoryview(b"".join(self.mapped[start:end] for start, end in self.pieces))
        if self.crc is not None and not self._checked and zlib.crc32(content) != self.crc:
            raise LatteError(
                f"{self.path}: {shown(self.label)} is damaged: its bytes do not match their checksum"
            )
        self._checked = True
        return content

    def release(self) -> None:
        """Release the memory of the mapped pages if the system supports it; the page cache keeps them."""
        mapping = self.mapped.obj
        if not isinstance(mapping, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
            return
        for start, end in self.pieces:
            page = start - start % mmap.PAGESIZE
            if end > page:
                mapping.madvise(mmap.MADV_DONTNEED, page, end - page)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor over a storage; `offset` and `strides` count elements, as PyTorch does."""

    dtype: Dtype
    shape: Shape
    storage: Storage
    offset: int = 0
    strides: Shape | None = None

    def bits(self) -> Bits:
        elements = np.frombuffer(self.storage.bytes(), dtype=self.dtype.bits)[self.offset :]
        if self.strides is None or self.strides == row_major(self.shape):
            return elements[: math.prod(self.shape)].reshape(self.shape)
        steps = tuple(stride * self.dtype.bits.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(elements, self.shape, steps, writeable=False)
        return np.ascontiguousarray(view).reshape(self.shape)

    def release(self) -> None:
        self.storage.release()


@dataclass(frozen=True)
class Rearranged:
    """Another tensor reshaped to `split`, with its axes permuted to `order`, then reshaped to `shape`."""

    tensor: Tensor
    shape: Shape
    split: Shape = ()
    order: Shape = ()

    @property
    def dtype(self) -> Dtype:
        return self.tensor.dtype

    def bits(self) -> Bits:
        numbers = self.tensor.bits()
        if self.order:
            numbers = np.ascontiguousarray(numbers.reshape(self.split).transpose(self.order))
        return numbers.reshape(self.shape)

    def release(self) -> None:
        self.tensor.release()


@dataclass(frozen=True)
class InMemory:
    """A tensor around a numpy array; `bfloat16` says that a uint16 array holds the bits of bfloat16."""

    array: Bits
    bfloat16: Dtype | None = None

    @property
    def dtype(self) -> Dtype:
        return self.bfloat16 or dtype_of(self.array)

    @property
    def shape(self) -> Shape:
        return self.array.shape

    def bits(self) -> Bits:
        return np.ascontiguousarray(self.array, dtype=self.dtype.bits).reshape(self.shape)

    def release(self) -> None:
        """Does nothing: the numbers are not in a file."""


def row_major(shape: Shape) -> Shape:
    """Strides, in elements, of a tensor without gaps."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def nbytes(tensor: Tensor) -> int:
    """Size of a tensor in bytes."""
    return math.prod(tensor.shape) * tensor.dtype.bits.itemsize


def check_extent(shape: Shape, strides: Shape, offset: int, *, available: int) -> None:
    """Raise RefusedError for a view that exceeds its storage of `available` elements or expands it."""
    if len(shape) > MAX_DIMENSIONS or len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
        raise RefusedError("a tensor has an invalid size, stride or offset")
    count = math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if count and last >= available:
        raise RefusedError(f"a tensor reaches element {last} of a storage of {available}")
    if count > max(available, MAX_REPEATED_ELEMENTS):
        raise RefusedError(f"a tensor claims {count} elements, its storage has {available}")
