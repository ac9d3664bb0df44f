# ruff: noqa: A001, A002  (the parameters keep the names that mint gives them)
"""CPU replacements of Ascend-only `mindspore.mint` functions used by MindONE's schedulers; silent imports.

Each function below has the name, parameters and result of the `mint` function that it replaces.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import mindspore as ms
from mindspore import Tensor, mint, ops


def supply_cpu_kernels() -> None:
    """Replace MindSpore's Ascend-only operators with ones that run on a CPU.

    Does nothing on other devices and on repeated calls. Call it before MindONE creates a scheduler.
    """
    if ms.get_context("device_target") != "CPU" or mint.stack is stack:
        return
    for replacement in MINT:
        setattr(mint, replacement.__name__, replacement)
    Tensor.repeat_interleave = repeat_interleave
    Tensor.nonzero = nonzero


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Import MindONE and transformers without their output: prints to stdout, warnings, notes."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def stack(tensors: Any, dim: int = 0) -> Tensor:
    return ops.stack(tensors, axis=dim)


def arange(start: Any = 0, end: Any = None, step: Any = 1, *, dtype: Any = None) -> Tensor:
    return ops.arange(start, end, step, dtype=dtype)


def randn_like(input: Tensor, *, dtype: Any = None) -> Tensor:
    return ops.standard_normal(input.shape).astype(dtype or input.dtype)


def repeat_interleave(
    input: Tensor, repeats: int, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """`repeats` is a number: MindONE never passes a count for each row."""
    if dim is None:
        input, dim = input.reshape((-1,)), 0
    shape = input.shape
    dim = dim % len(shape)
    wide = input.expand_dims(dim + 1).broadcast_to((*shape[: dim + 1], repeats, *shape[dim + 1 :]))
    return wide.reshape((*shape[:dim], shape[dim] * repeats, *shape[dim + 1 :]))


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Indices of non-zero elements: (count, axes), or a tensor for each axis."""
    places = ops.NonZero()(input)
    return tuple(places[:, axis] for axis in range(input.ndim)) if as_tuple else places


MINT = (stack, arange, randn_like, repeat_interleave)
