"""A text encoder's weights, read from their file each time they are used and not kept in memory."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.dtypes import FLOATS, widen
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.checkpoints.tensors import Tensor, nbytes
from latte_cli.core.errors import LatteError

Shapes = Mapping[str, tuple[int, ...]]


class StreamedWeights:
    """The weights in a folder, by the names of `shapes`, as float32.

    The mapped pages of a tensor are released when the next one is read. Raises LatteError if one is missing,
    has the wrong shape or is not a float.
    """

    def __init__(self, folder: Path, shapes: Shapes, aliases: Mapping[str, str]):
        """`aliases`: name prefixes, and alternatives that files may use."""
        weights = open_weights(folder)
        self._path = weights.path
        self._tensors: dict[str, Tensor] = {}
        self._last: Tensor | None = None
        for name, shape in shapes.items():
            names = [name, *(name.replace(start, other, 1) for start, other in aliases.items())]
            tensor = next((weights.tensors[one] for one in names if one in weights.tensors), None)
            if tensor is None:
                raise LatteError(f"{weights.path}: {name} is missing from the weights")
            if tensor.shape != shape:
                raise LatteError(
                    f"{weights.path}: {name}: found shape {tensor.shape}, expected {shape} by config.json"
                )
            if tensor.dtype.name not in FLOATS:
                raise LatteError(f"{weights.path}: {name}: found {tensor.dtype.name}, expected floats")
            self._tensors[name] = tensor

    def __call__(self, name: str) -> NDArray[np.float32]:
        """Read a tensor: memory-mapped if it is float32, else converted."""
        tensor = self._next(name)
        return np.asarray(widen(tensor.bits(), tensor.dtype), np.float32)

    def rows(self, name: str, places: NDArray[np.int32]) -> NDArray[np.float32]:
        """Read only the rows `places` (...) of a table: (..., width).

        Raises LatteError for a row beyond the table.
        """
        tensor = self._next(name)
        if places.max() >= tensor.shape[0]:
            found = f"found {tensor.shape[0]} rows, but the tokenizer uses token {places.max()}"
            raise LatteError(f"{self._path}: {name}: {found}")
        return np.asarray(widen(tensor.bits()[places], tensor.dtype), np.float32)

    def held_bytes(self, name: str) -> int:
        """Bytes needed while a tensor is used: as stored, plus the converted copy if needed."""
        tensor = self._tensors[name]
        converted = 0 if tensor.dtype.name == "float32" else math.prod(tensor.shape) * 4
        return nbytes(tensor) + converted

    def release(self) -> None:
        """Release the pages of the tensor read last."""
        if self._last is not None:
            self._last.release()
            self._last = None

    def _next(self, name: str) -> Tensor:
        self.release()
        self._last = self._tensors[name]
        return self._last
