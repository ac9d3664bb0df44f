"""The operators of text encoders, compared with float64."""

import numpy as np
import pytest

from latte_cli.core.models.text.mindspore_operators import MindSporeOperators
from latte_cli.core.models.text.numpy_operators import NumpyOperators
from latte_cli.core.models.text.operators import ACTIVATIONS
from tests.core.kernels.reference import softmax
from tests.core.models.text import small_t5

pytestmark = pytest.mark.plain

X = np.concatenate([np.linspace(-12, 12, 40001), np.geomspace(1e-6, 1, 1000)]).astype(np.float32)[None, None]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_accurate_up_to_rounding(name: str) -> None:
    expected = small_t5.ACTIVATIONS[name](X.astype(np.float64))
    found = NumpyOperators().activate(name, X.copy())
    # 1 + tanh and 1 + erf have the rounding error of 1, also in PyTorch's float32.
    np.testing.assert_array_less(
        np.abs(found - expected), 4e-7 * np.maximum(np.abs(X), np.abs(expected)) + 1e-30
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_activations_of_mindspore_are_the_same_functions(name: str) -> None:
    operators = MindSporeOperators("float32")
    found = operators.numbers(operators.activate(name, operators.array(X)))
    np.testing.assert_allclose(found, small_t5.ACTIVATIONS[name](X.astype(np.float64)), rtol=0, atol=2e-4)


def test_attention_is_accurate_up_to_rounding() -> None:
    generator = np.random.default_rng(0)
    query, key, value = 3 * generator.standard_normal((3, 2, 120, 64)).astype(np.float32)
    bias = np.where(np.tri(120) > 0, 0, np.finfo(np.float32).min).astype(np.float32)[None, None]
    found = NumpyOperators().attend(query, key, value, bias=bias, heads=4, scale=0.25)
    wide = [x.astype(np.float64).reshape(2, 120, 4, 16).swapaxes(1, 2) for x in (query, key, value)]
    scores = wide[0] @ wide[1].swapaxes(2, 3) * 0.25 + bias
    expected = (softmax(scores) @ wide[2]).swapaxes(1, 2).reshape(2, 120, 64)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
