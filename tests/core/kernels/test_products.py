"""Matrix products, also those that recompute the previous function for gradients, compared with float64."""

import mindspore as ms
import numpy as np
import pytest

from latte_cli.core.kernels import operators as kernels
from tests.core.kernels import reference
from tests.core.kernels.compare import assert_close, value_and_grads

SIZES = [(2, 12, 24), (1, 70, 144)]
# The function, the formula of the function before the product, and the shapes of its other inputs.
CASES = {
    "norm_linear": ("modulated_layer_norm", lambda batch, width: [(batch, width), (batch, width)]),
    "gelu_linear": ("bias_gelu_tanh", lambda batch, width: [(width,)]),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("jit", [False, True])
def test_values_and_gradients_match_the_formula(
    name: str, size: tuple[int, int, int], jit: bool, path: str
) -> None:
    before, further = CASES[name]
    (batch, rows, width), outputs = size, 36
    rng = np.random.default_rng(rows)
    shapes = [size, *further(batch, width), (outputs, width)]
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    dout = rng.normal(size=(batch, rows, outputs)).astype(np.float32)

    def function(*tensors):  # type: ignore[no-untyped-def]
        return getattr(kernels, name)(*tensors, dtype=ms.float32)

    out, grads = value_and_grads(function, arrays, dout, jit=jit)
    *inputs, weight = [array.astype(np.float64) for array in arrays]
    y, dout64 = getattr(reference, before)(*inputs), dout.astype(np.float64)
    assert_close(out, y @ weight.T, "value")
    expected = [
        *getattr(reference, before + "_grad")(*inputs, dout64 @ weight),
        dout64.reshape(-1, outputs).T @ y.reshape(-1, width),
    ]
    for place, (found, right) in enumerate(zip(grads, expected, strict=True)):
        assert_close(found, right, f"gradient {place}", 2e-5)


@pytest.mark.parametrize("shape", [(2, 40), (3, 1, 515), (97, 24), (2, 300, 130), (1000, 144)], ids=str)
@pytest.mark.parametrize("outputs", [1, 16, 50, 200])
def test_products_of_all_sizes_and_their_gradients_match_the_formula(
    shape: tuple[int, ...], outputs: int, path: str
) -> None:
    """Few and many rows, full vectors and remainders, one panel and several."""
    rng = np.random.default_rng(outputs)
    x, weight = (rng.normal(size=size).astype(np.float32) for size in (shape, (outputs, shape[-1])))
    dout = rng.normal(size=(*shape[:-1], outputs)).astype(np.float32)
    out, (dx, dweight) = value_and_grads(kernels.product, [x, weight], dout, jit=False)
    wide, dout64 = x.astype(np.float64), dout.astype(np.float64)
    assert_close(out, wide @ weight.T, "value")
    assert_close(dx, dout64 @ weight, "gradient of x")
    assert_close(
        dweight, dout64.reshape(-1, outputs).T @ wide.reshape(-1, shape[-1]), "gradient of the weight"
    )
