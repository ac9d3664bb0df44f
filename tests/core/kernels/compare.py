"""Run a function with its gradients, and compare with the formula."""

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor


def value_and_grads(
    function: Callable[..., Tensor], arrays: list[np.ndarray], dout: np.ndarray, *, jit: bool
) -> tuple[np.ndarray, list[np.ndarray]]:
    """function(*arrays) and its vector-Jacobian products with `dout`."""

    def weighted(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        out = function(*tensors)
        return (out * Tensor(dout)).sum(), out

    places = tuple(range(len(arrays)))
    step: Any = ms.value_and_grad(weighted, places, has_aux=True)
    if jit:
        step = ms.jit(step)
    (_, out), grads = step(*[Tensor(array) for array in arrays])
    grads = (
        grads if isinstance(grads, tuple) else (grads,)
    )  # MindSpore returns a single gradient without a tuple
    return out.asnumpy(), [grad.asnumpy() for grad in grads]


def assert_close(found: np.ndarray, expected: np.ndarray, what: str, tolerance: float = 1e-5) -> None:
    """Compare with a tolerance relative to the largest value."""
    assert found.shape == expected.shape, what
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-3), err_msg=what
    )
