"""The compiled kernels give the same bits whatever the number of threads."""

import ctypes
from collections.abc import Iterator

import numpy as np
import pytest

from latte_cli.core import kernels
from latte_cli.core.kernels.build import library_path
from tests.core.kernels.compare import value_and_grads


@pytest.fixture
def library() -> Iterator[ctypes.CDLL]:
    """Give the compiled library; afterwards it has its threads back."""
    loaded = ctypes.CDLL(str(library_path()))
    threads = loaded.latte_threads()
    yield loaded
    loaded.latte_set_threads(threads)


def space(qkv, bias):  # type: ignore[no-untyped-def]
    return kernels.attention(qkv, 6, 4, "space", bias=bias)


def time(qkv, bias):  # type: ignore[no-untyped-def]
    return kernels.attention(qkv, 6, 4, "time", bias=bias)


ROWS, WIDTH = (2, 4 * 96, 144), (144,)
CASES = [
    (kernels.modulated_layer_norm, [ROWS, (2, 144), (2, 144)], ROWS),
    (kernels.gated_residual, [ROWS, (2, 144), ROWS, WIDTH], ROWS),
    (kernels.bias_gelu_tanh, [ROWS, WIDTH], ROWS),
    (kernels.add_bias, [ROWS, WIDTH], ROWS),
    (space, [(2, 4 * 96, 3 * 144), (3 * 144,)], ROWS),
    (time, [(2, 4 * 96, 3 * 144), (3 * 144,)], ROWS),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_one_two_and_five_threads_give_the_same_bits(case, library: ctypes.CDLL) -> None:  # type: ignore[no-untyped-def]
    function, shapes, out_shape = case
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    dout = rng.normal(size=out_shape).astype(np.float32)
    results = []
    for threads in (1, 2, 5):
        library.latte_set_threads(threads)
        assert library.latte_threads() == threads
        out, grads = value_and_grads(function, arrays, dout, jit=False)
        results.append([array.tobytes() for array in (out, *grads)])
    assert results[0] == results[1] == results[2]
