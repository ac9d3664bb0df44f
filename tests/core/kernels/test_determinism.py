"""The compiled kernels compute the same bits with any number of threads."""

import ctypes
from collections.abc import Iterator

import numpy as np
import pytest
from mindspore import Parameter, Tensor

from latte_cli.core.kernels import operators as kernels
from latte_cli.core.kernels.build import library_path
from latte_cli.core.kernels.optimizer import Buffers, adamw_ema
from tests.core.kernels.compare import value_and_grads


@pytest.fixture
def library() -> Iterator[ctypes.CDLL]:
    """The compiled library; its number of threads is restored afterwards."""
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
    (kernels.product, [ROWS, (200, 144)], (2, 4 * 96, 200)),
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


def test_subnormal_squares_are_zero_on_every_thread() -> None:
    """Some libraries change in some threads whether these are kept; results would not be reproducible."""
    for size in (100, 400_000):  # on the caller's thread, and divided among threads
        parameters, means, squares, averages = (
            [Parameter(Tensor(np.zeros(size, np.float32)), name=name)] for name in "pmsa"
        )
        gradients = [Tensor(np.full(size, 1e-19, np.float32))]
        for step in range(8):
            buffers = Buffers(parameters, means, squares, averages, [0.0])
            adamw_ema(buffers, gradients, step=step, rate=1e-3, factor=1.0, average=0.9)
        np.testing.assert_array_equal(squares[0].asnumpy(), 0)
        np.testing.assert_allclose(means[0].asnumpy(), 1e-19 * (1 - 0.9**8), rtol=1e-5)
