"""A text encoder's weights, which stay in their file: each is read when it is used, and kept nowhere."""

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

    A tensor's numbers are valid for as long as they are held; the pages of its file are given back when the
    next one is asked for. Raises LatteError when one is missing, misshapen or no float.
    """

    def __init__(self, folder: Path, shapes: Shapes, aliases: Mapping[str, str]):
        """`aliases`: the beginning of a name, and what files may have in its place."""
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
        """A tensor's numbers: mapped where the file has them as float32, else converted."""
        tensor = self._next(name)
        return np.asarray(widen(tensor.bits(), tensor.dtype), np.float32)

    def rows(self, name: str, places: NDArray[np.int32]) -> NDArray[np.float32]:
        """Some rows of a table: (..., width) for `places` (...); the others are not read.

        Raises LatteError for a place that is beyond the table.
        """
        tensor = self._next(name)
        if places.max() >= tensor.shape[0]:
            found = f"found {tensor.shape[0]} rows, the tokenizer gives token {places.max()}"
            raise LatteError(f"{self._path}: {name}: {found}")
        return np.asarray(widen(tensor.bits()[places], tensor.dtype), np.float32)

    def held_bytes(self, name: str) -> int:
        """Bytes that a tensor takes while it is used: as it is stored, and converted where it must be."""
        tensor = self._tensors[name]
        converted = 0 if tensor.dtype.name == "float32" else math.prod(tensor.shape) * 4
        return nbytes(tensor) + converted

    def release(self) -> None:
        """Give back the pages of the tensor that was asked for last."""
        if self._last is not None:
            self._last.release()
            self._last = None

    def _next(self, name: str) -> Tensor:
        self.release()
        self._last = self._tensors[name]
        return self._last
