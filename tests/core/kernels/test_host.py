"""The same function on NumPy's arrays and on tensors."""

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from latte_cli.core.kernels import host
from latte_cli.core.kernels import operators as kernels

pytestmark = pytest.mark.compiled

ROWS, VECTOR, WIDTH = (2, 96, 36), (2, 36), (36,)


def attention(x, bias):  # type: ignore[no-untyped-def]
    return kernels.attention(x, 3, 4, "time", bias=bias)


def norm_linear(x, shift, scale, weight):  # type: ignore[no-untyped-def]
    return kernels.norm_linear(x, shift, scale, weight, dtype=ms.float32)


def gelu_linear(x, bias, weight):  # type: ignore[no-untyped-def]
    return kernels.gelu_linear(x, bias, weight, dtype=ms.float32)


def split(x):  # type: ignore[no-untyped-def]
    return kernels.split(x, 3)[1]


def concat(x, y):  # type: ignore[no-untyped-def]
    return kernels.concat((x, y), 1)


def rows(x, table):  # type: ignore[no-untyped-def]
    return kernels.rows(table, x)


def add_spread(x, table):  # type: ignore[no-untyped-def]
    return kernels.add_spread(x, table, (1, 1, 36))


CASES: list[tuple[Callable[..., Any], list[tuple[int, ...]]]] = [
    (kernels.modulated_layer_norm, [ROWS, VECTOR, VECTOR]),
    (kernels.gated_residual, [ROWS, VECTOR, ROWS, WIDTH]),
    (kernels.gated_residual, [ROWS, VECTOR, ROWS]),
    (kernels.bias_gelu_tanh, [ROWS, WIDTH]),
    (kernels.gelu_tanh, [ROWS]),
    (kernels.silu, [VECTOR]),
    (kernels.softmax, [ROWS]),
    (kernels.add_bias, [ROWS, WIDTH]),
    (kernels.linear, [ROWS, (50, 36), (50,)]),
    (kernels.linear, [VECTOR, (50, 36), (50,)]),
    (kernels.linear, [(300, 36), (200, 36), (200,)]),
    (kernels.product, [ROWS, (50, 36)]),
    (norm_linear, [ROWS, VECTOR, VECTOR, (50, 36)]),
    (gelu_linear, [ROWS, WIDTH, (50, 36)]),
    (attention, [(2, 32, 72), (72,)]),
    (split, [VECTOR]),
    (concat, [ROWS, ROWS]),
    (add_spread, [ROWS, WIDTH]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}-{len(case[1])}")
def test_arrays_and_tensors_give_the_same_bits(case: tuple[Callable[..., Any], list[Any]]) -> None:
    function, shapes = case
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
    wanted = ms.jit(function)(*[Tensor(array) for array in arrays]).asnumpy()
    found = function(*arrays)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, wanted, strict=True)


def test_lookup_returns_the_rows_of_the_indices() -> None:
    table, places = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([2, 0])
    np.testing.assert_array_equal(kernels.rows(Parameter(Tensor(table)), places), table[[2, 0]])


@pytest.mark.parametrize(("queries", "tokens"), [(1, 1), (50, 7), (1000, 120)])
def test_attention_to_a_text_matches_the_formula(queries: int, tokens: int) -> None:
    rng = np.random.default_rng(2)
    query, key, value = (rng.standard_normal((2, n, 24), np.float32) for n in (queries, tokens, tokens))
    bias = rng.standard_normal((2, tokens), np.float32)
    q, k, v = (a.reshape(2, -1, 3, 8).astype(np.float64) for a in (query, key, value))
    scores = np.exp(np.einsum("bmhd,bnhd->bhmn", q, k) / np.sqrt(8) + bias[:, None, None])
    weights = scores / scores.sum(-1, keepdims=True)
    wanted = np.einsum("bhmn,bnhd->bmhd", weights, v).reshape(query.shape)
    arrays = (query, key, value, bias)
    for found in (
        kernels.text_attention(*arrays, 3),
        kernels.text_attention(*map(Tensor, arrays), 3).asnumpy(),
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16, ms.bfloat16])
def test_weights_of_any_type_are_converted_to_float32(dtype: Any) -> None:
    values = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    x, weight = np.ones((5, 4), np.float32), Parameter(Tensor(values, dtype))
    wide = weight.astype(ms.float32).asnumpy()
    np.testing.assert_allclose(kernels.product(x, weight), x @ wide.T, rtol=0, atol=1e-6)


def test_a_non_contiguous_array_is_read_correctly() -> None:
    x = np.random.default_rng(3).standard_normal((36, 96, 2), np.float32).transpose(2, 1, 0)
    np.testing.assert_array_equal(kernels.silu(x), kernels.silu(x.copy()))


def test_a_kernel_without_memory_raises_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_kernel", lambda name: lambda *arguments: 1)
    with pytest.raises(MemoryError, match=r"not enough memory for LatteSilu of \[\(2, 36\), \(2, 36\)\]"):
        kernels.silu(np.ones(VECTOR, np.float32))
