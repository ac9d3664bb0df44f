"""Optimizer operations in place: on a CPU, NumPy shares MindSpore's memory.

With the compiled kernels each function is one pass over all tensors, otherwise a sequence of NumPy
operations.
"""

import ctypes
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from mindspore import Tensor

from latte_cli.core.arrays import Array
from latte_cli.core.kernels.build import library_path
from latte_cli.core.kernels.selection import kernels_available

Values: TypeAlias = Tensor | Array  # contiguous float32


class Buffers(NamedTuple):
    """The buffers that a step updates in place: a float32 tensor or array for each parameter, of its shape.

    `decays` are the parameters' weight decays; `averages` (of the weights) may be None.
    """

    parameters: Sequence[Values]
    means: Sequence[Values]
    squares: Sequence[Values]
    averages: Sequence[Values] | None
    decays: Sequence[float]


def adamw_ema(
    buffers: Buffers,
    gradients: Sequence[Values],
    *,
    step: int,
    rate: float,
    factor: float = 1.0,
    average: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
) -> None:
    """Do an AdamW step like torch.optim.AdamW, then update the averages.

    `step` counts from 0; `factor` multiplies the gradients (clipping, loss scale); `average` is the averages'
    decay: average <- decay * average + (1 - decay) * parameter. Bit-identical for any number of threads.
    Raises ValueError for values that are not float32 or cannot be updated in place.
    """
    correction1, correction2 = (1 - beta ** (step + 1) for beta in betas)
    update = _Update(
        factor=factor,
        fresh1=1 - betas[0],
        keep2=betas[1],
        fresh2=1 - betas[1],
        rate=rate / correction1,
        root=1 / math.sqrt(correction2),
        epsilon=epsilon,
        keep_average=average,
        fresh_average=1 - average,
    )
    shrink = np.array([1 - rate * decay for decay in buffers.decays], np.float32)
    grads = [_array(gradient) for gradient in gradients]
    updated = [[_shared(one) for one in group] for group in buffers[:3]]
    averages = None if buffers.averages is None else [_shared(one) for one in buffers.averages]
    _check_sizes(grads, *updated, shrink, *([] if averages is None else [averages]))
    if kernels_available():
        shares = None if averages is None else _addresses(averages)
        places = [_addresses(group) for group in (grads, *updated)]
        _library().latte_adamw_ema(
            len(grads),
            _sizes(grads),
            *places,
            shares,
            shrink.ctypes.data_as(ctypes.c_void_p),
            ctypes.byref(update),
        )
    else:
        for place, arrays in enumerate(zip(grads, *updated, strict=True)):
            _step(*arrays, keep=shrink[place], update=update)
            if averages is not None:
                averages[place] *= np.float32(average)
                averages[place] += updated[0][place] * np.float32(1 - average)


def global_norm(values: Sequence[Values]) -> float:
    """The root of the sum of all squares, summed in float64 in a fixed order."""
    arrays = [_array(value) for value in values]
    if kernels_available():
        return math.sqrt(_library().latte_sum_squares(len(arrays), _sizes(arrays), _addresses(arrays)))
    return math.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in arrays))


def accumulate(sums: Sequence[Values], values: Sequence[Values]) -> None:
    """Add values to `sums`, in place."""
    totals, arrays = [_shared(one) for one in sums], [_array(value) for value in values]
    _check_sizes(totals, arrays)
    if kernels_available():
        _library().latte_accumulate(len(arrays), _sizes(arrays), _addresses(totals), _addresses(arrays))
    else:
        for total, array in zip(totals, arrays, strict=True):
            np.add(total, array, out=total)


class _Update(ctypes.Structure):
    """The C++ struct of the same name."""

    _fields_ = tuple(
        (name, ctypes.c_float)
        for name in (
            *("factor", "fresh1", "keep2", "fresh2", "rate", "root"),
            *("epsilon", "keep_average", "fresh_average"),
        )
    )


def _step(*arrays: Array, keep: np.float32, update: _Update) -> None:
    gradient, parameter, mean, square = arrays
    u = {field[0]: np.float32(getattr(update, field[0])) for field in update._fields_}
    scaled = gradient * u["factor"]
    mean += (scaled - mean) * u["fresh1"]
    square *= u["keep2"]
    square += np.square(scaled) * u["fresh2"]
    parameter *= keep
    parameter -= u["rate"] * mean / (np.sqrt(square) * u["root"] + u["epsilon"])


@cache
def _library() -> Any:
    library = ctypes.CDLL(str(library_path()))
    library.latte_sum_squares.restype = ctypes.c_double
    return library


def _array(value: Values) -> Array:
    array = value.asnumpy() if isinstance(value, Tensor) else value
    if array.dtype != np.float32:
        raise ValueError(f"expected float32, got {array.dtype}")
    return np.ascontiguousarray(array)


def _shared(value: Values) -> Array:
    """An array that shares memory with `value`."""
    array = _array(value)
    origin = value.data_ptr() if isinstance(value, Tensor) else value.ctypes.data
    if array.ctypes.data != origin or not array.flags.writeable:
        raise ValueError("expected memory that can be written in place, got a copy or a read-only array")
    return array


def _check_sizes(*groups: Any) -> None:
    if any(len(group) != len(groups[0]) for group in groups):
        raise ValueError(f"expected groups of one length, got {[len(group) for group in groups]}")
    arrays = [group for group in groups if isinstance(group, list)]
    for row in zip(*arrays, strict=True):
        if any(array.size != row[0].size for array in row):
            raise ValueError(f"expected tensors of one size, got {[array.shape for array in row]}")


def _sizes(arrays: Sequence[Array]) -> Any:
    return (ctypes.c_int64 * len(arrays))(*[array.size for array in arrays])


def _addresses(arrays: Sequence[Array]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])
