"""Layer norm, gated residual and GELU, compared with float64: both paths, values and gradients."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from latte_cli.core.kernels import operators as kernels
from tests.core.kernels import reference
from tests.core.kernels.compare import assert_close, value_and_grads

NAMES = ["modulated_layer_norm", "gated_residual", "bias_gelu_tanh", "add_bias", "silu", "softmax"]
SIZES = [(1, 1, 1), (2, 12, 24), (3, 35, 36), (2, 70, 144), (1, 257, 384)]


def inputs(name: str, size: tuple[int, int, int]) -> list[np.ndarray]:
    """Random inputs of the function for (B, N, D)."""
    batch, rows, width = size
    shapes = {
        "modulated_layer_norm": [size, (batch, width), (batch, width)],
        "gated_residual": [size, (batch, width), size, (width,)],
        "bias_gelu_tanh": [size, (width,)],
        "add_bias": [size, (width,)],
        "silu": [size],
        "softmax": [size],
    }[name]
    rng = np.random.default_rng(rows)
    return [rng.normal(size=shape, scale=1.5).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_match_the_formula(
    name: str, size: tuple[int, int, int], jit: bool, path: str
) -> None:
    arrays = inputs(name, size)
    dout = np.random.default_rng(7).normal(size=size).astype(np.float32)
    out, grads = value_and_grads(getattr(kernels, name), arrays, dout, jit=jit)
    wide = [array.astype(np.float64) for array in arrays]
    assert_close(out, getattr(reference, name)(*wide), "value")
    for place, (found, expected) in enumerate(
        zip(grads, getattr(reference, name + "_grad")(*wide, dout.astype(np.float64)), strict=True)
    ):
        assert_close(found, expected, f"gradient {place}", 2e-5)


def test_without_a_bias_the_result_is_that_of_a_zero_bias(path: str) -> None:
    x, gate, y, _ = inputs("gated_residual", (2, 5, 24))
    zero = np.zeros(24)
    out = kernels.gated_residual(Tensor(x), Tensor(gate), Tensor(y)).asnumpy()
    assert_close(out, reference.gated_residual(x, gate, y, zero), "gated_residual")
    assert_close(kernels.gelu_tanh(Tensor(x)).asnumpy(), reference.bias_gelu_tanh(x, zero), "gelu_tanh")


def test_linear_and_its_gradients_match_the_formula(path: str) -> None:
    rng = np.random.default_rng(3)
    x, weight, bias, dout = [
        rng.normal(size=shape).astype(np.float32) for shape in ((2, 5, 24), (36, 24), (36,), (2, 5, 36))
    ]
    out, grads = value_and_grads(kernels.linear, [x, weight, bias], dout, jit=True)
    rows, drows = x.reshape(-1, 24).astype(np.float64), dout.reshape(-1, 36).astype(np.float64)
    assert_close(out, (rows @ weight.T + bias).reshape(2, 5, 36), "value")
    assert_close(grads[0], (drows @ weight).reshape(x.shape), "gradient of x")
    assert_close(grads[1], drows.T @ rows, "gradient of the weight")
    assert_close(grads[2], drows.sum(0), "gradient of the bias")


def test_gelu_is_accurate_to_a_millionth_over_its_range(path: str) -> None:
    x = np.linspace(-30, 30, 4096, dtype=np.float32)[None]
    out = kernels.gelu_tanh(Tensor(x)).asnumpy()
    np.testing.assert_allclose(
        out, reference.bias_gelu_tanh(x.astype(np.float64), np.zeros(4096)), rtol=2e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", NAMES)
def test_nan_propagates_to_outputs_and_gradients(name: str, path: str) -> None:
    size = (2, 6, 40)
    arrays = inputs(name, size)
    arrays[0][1, 3, 17] = np.nan
    out, _ = value_and_grads(getattr(kernels, name), arrays, np.ones(size, np.float32), jit=False)
    assert np.isnan(out[1, 3, 17])
    assert np.isfinite(out[0]).all()
    dout = np.ones(size, np.float32)
    dout[1, 3, 17] = np.nan
    _, grads = value_and_grads(getattr(kernels, name), inputs(name, size), dout, jit=False)
    assert all(np.isnan(grad).any() for grad in grads)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_rounded_once(name: str, path: str) -> None:
    arrays = [array.astype(np.float16) for array in inputs(name, (2, 6, 40))]
    out = getattr(kernels, name)(*[Tensor(array) for array in arrays])
    assert out.dtype == ms.float16
    expected = getattr(reference, name)(*[array.astype(np.float64) for array in arrays])
    assert_close(out.asnumpy(), expected, name, 2e-3)
