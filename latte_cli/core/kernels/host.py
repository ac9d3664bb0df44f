"""Call the compiled kernels directly on NumPy arrays, without a graph for MindSpore to compile.

A model's `construct` runs on arrays as on tensors, since every function of `operators` accepts both; there
are no gradients. Weights are MindSpore's parameters, read in place; 16-bit ones are converted to float32.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Array
from latte_cli.core.kernels.build import library_path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST_KEPT = 1 << 30  # bytes
_KEPT = "_read_in_place"  # attribute of a parameter: its memory as an array, and the address


def array(values: Any) -> Array:
    """A parameter or array as contiguous float32; copied only if necessary."""
    return np.ascontiguousarray(values if isinstance(values, np.ndarray) else _read(values)[0], np.float32)


def call(name: str, inputs: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
    """Call a kernel with one output on float32 inputs; integer constants are passed unchanged."""
    output = np.empty(shape, np.float32)
    located = [_located(one) for one in (*inputs, output)]
    count = len(located)
    shapes = [_sizes(one.shape) for one, _ in located]
    status = _kernel(name)(
        count,
        (ctypes.c_void_p * count)(*[address for _, address in located]),
        (ctypes.c_int * count)(*[one.ndim for one, _ in located]),
        (ctypes.c_void_p * count)(*[ctypes.addressof(one) for one in shapes]),
        None,
        None,
        None,
    )
    if status:
        raise MemoryError(f"not enough memory for {name} of {[one.shape for one, _ in located]}")
    return output


def _located(values: Any) -> tuple[Array, int]:
    """A parameter or array as contiguous float32, and its address; integers are not converted."""
    if not isinstance(values, np.ndarray):
        return _read(values)
    numbers: Any = values if values.dtype == np.int64 else np.ascontiguousarray(values, np.float32)
    if numbers.flags.writeable and numbers.size:  # a third of the time of numbers.ctypes.data
        return numbers, ctypes.addressof(ctypes.c_char.from_buffer(numbers))
    return numbers, numbers.ctypes.data


def _read(parameter: Any) -> tuple[Array, int]:
    """A parameter as contiguous float32, in place if its memory is that, and the address."""
    # Asking for the address waits until the parameter is written; asking for an array takes ten times longer.
    kept: tuple[Array, int] | None = vars(parameter).get(_KEPT)
    if kept is not None and kept[1] == parameter.data_ptr():
        return kept
    numbers = np.ascontiguousarray(parameter.asnumpy(), np.float32)
    found = numbers, numbers.ctypes.data
    if found[1] == parameter.data_ptr():
        setattr(parameter, _KEPT, found)
    return found


def product(x: Array, weight: Any) -> Array:
    """x (..., inputs) @ weight.T, with `weight` (outputs, ...) flattened to (outputs, inputs)."""
    return call("LatteProduct", (x, _matrix(weight)), (*x.shape[:-1], len(weight)))


def linear(x: Array, weight: Any, bias: Any) -> Array:
    """`product` + bias (outputs)."""
    return call("LatteLinear", (x, _matrix(weight), bias), (*x.shape[:-1], len(weight)))


def layer_norm(x: Array, shift: Array, scale: Array) -> Array:
    """See `operators.modulated_layer_norm`."""
    return call("LatteLayerNorm", (x, shift, scale), x.shape)


def gated_residual(x: Array, gate: Array, y: Array, bias: Any) -> Array:
    """See `operators.gated_residual`."""
    return call("LatteGatedResidual", (x, gate, y, zeros(x.shape[2]) if bias is None else bias), x.shape)


def bias_gelu(x: Array, bias: Any) -> Array:
    """See `operators.bias_gelu_tanh`."""
    return call("LatteBiasGelu", (x, bias), x.shape)


def silu(x: Array) -> Array:
    """See `operators.silu`."""
    return call("LatteSilu", (x,), x.shape)


def softmax(x: Array) -> Array:
    """See `operators.softmax`."""
    return call("LatteSoftmax", (x,), x.shape)


def add_bias(x: Array, bias: Any) -> Array:
    """See `operators.add_bias`."""
    return call("LatteAddBias", (x, bias), x.shape)


def attention(qkv: Array, num_heads: int, num_frames: int, axis: str, bias: Any) -> Array:
    """See `operators.attention`."""
    clips, number, channels = qkv.shape
    facts = _attention_facts(num_heads, num_frames, axis)
    offset = zeros(channels) if bias is None else bias
    return call("LatteAttention", (qkv, offset, facts), (clips, number, channels // 3))


def text_attention(query: Array, key: Array, value: Array, score_bias: Array, num_heads: int) -> Array:
    """See `operators.text_attention`."""
    return call("LatteTextAttention", (query, key, value, score_bias, np.array([num_heads])), query.shape)


def convolve(x: Array, weight: Any, bias: Any, *, halves: bool) -> Array:
    """See `images.convolve_same` and `images.convolve_halving`."""
    number, _, height, width = x.shape
    outputs, _, rows, columns = weight.shape
    if halves:
        height, width = (height - rows) // 2 + 1, (width - columns) // 2 + 1
    offset = zeros(outputs) if bias is None else bias
    return call("LatteConvolution", (x, weight, offset), (number, outputs, height, width))


def group_norm(x: Array, groups: int, scale: Any, shift: Any, *, eps: float, silu: bool) -> Array:
    """See `images.group_norm`."""
    return call("LatteGroupNorm", (x, scale, shift, np.array([groups, eps, silu], np.float32)), x.shape)


def double(x: Array) -> Array:
    """See `images.double`."""
    number, channels, height, width = x.shape
    return call("LatteDouble", (x,), (number, channels, 2 * height, 2 * width))


def _matrix(weight: Any) -> Any:
    """A weight (outputs, ...) as (outputs, inputs)."""
    return weight if len(weight.shape) == 2 else array(weight).reshape(len(weight), -1)


@cache
def zeros(width: int) -> Array:
    """A zero bias."""
    return np.zeros(width, np.float32)


@cache
def _attention_facts(num_heads: int, num_frames: int, axis: str) -> NDArray[np.int64]:
    return np.array([num_heads, num_frames, axis == "time"], np.int64)


@cache
def _sizes(shape: tuple[int, ...]) -> Any:
    return (ctypes.c_int64 * max(1, len(shape)))(*shape)


@cache
def _kernel(name: str) -> Any:
    _keep_memory()
    return getattr(ctypes.CDLL(str(library_path())), name)


@cache
def _keep_memory() -> None:
    """Keep freed memory of large arrays for reuse; otherwise the system clears new pages each time."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # glibc's
        mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, LARGEST_KEPT)
