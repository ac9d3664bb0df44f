"""A text encoder's operators on a CPU, in float32: NumPy's, and the compiled kernels' product if there is.

A text's states do not depend on the others', to the last bit: NumPy's products are taken text by text.
"""

from collections.abc import Callable
from functools import cached_property
from math import pi, sqrt

import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.kernels import host
from latte_cli.core.models.text.memory import AT_ONCE


class NumpyOperators:
    """See `Operators`."""

    texts = AT_ONCE

    @cached_property
    def _compiled(self) -> bool:
        from latte_cli.core.kernels.selection import kernels_available  # imports MindSpore

        return kernels_available()

    def array(self, numbers: Array) -> Array:
        return numbers

    def numbers(self, x: Array) -> Array:
        return x

    def linear(self, x: Array, weight: Array, bias: Array | None = None, *, wide: bool = False) -> Array:
        product: Array = host.product(x, weight) if self._compiled else np.matmul(x, weight.T)
        if bias is not None:
            product += bias
        return product

    def attend(
        self, query: Array, key: Array, value: Array, *, bias: Array, heads: int, scale: float
    ) -> Array:
        query, key, value = (_split(each, heads) for each in (query, key, value))
        scores = np.matmul(query, key.swapaxes(2, 3))
        scores *= np.float32(scale)
        scores += bias
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(-1, keepdims=True)
        texts, _, tokens, _ = query.shape
        return np.matmul(scores, value).swapaxes(1, 2).reshape(texts, tokens, -1)

    def rms_norm(self, x: Array, weight: Array, eps: float) -> Array:
        scale = np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(eps))
        return x / scale * weight

    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        return self.rms_norm(centred, weight, eps) + bias

    def activate(self, name: str, x: Array) -> Array:
        for text in x:  # limits the memory for intermediate values
            text[...] = _ACTIVATIONS[name](text)
        return x


def _split(x: Array, heads: int) -> Array:
    """(texts, tokens, heads * width) to (texts, heads, tokens, width)."""
    return np.ascontiguousarray(x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2))


def _relu(x: Array) -> Array:
    return np.maximum(x, np.float32(0))


# scipy.special takes a tenth of a second to import, and T5 does without.


def _gelu(x: Array) -> Array:
    from scipy.special import erf

    return x * (np.float32(0.5) * (1 + erf(x * np.float32(sqrt(0.5)))))


def _gelu_new(x: Array) -> Array:
    inner = np.float32(sqrt(2 / pi)) * (x + np.float32(0.044715) * x * x * x)
    return x * (np.float32(0.5) * (1 + np.tanh(inner)))


def _quick_gelu(x: Array) -> Array:
    from scipy.special import expit

    return x * expit(np.float32(1.702) * x)


def _silu(x: Array) -> Array:
    from scipy.special import expit

    return x * expit(x)


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": _relu,
    "gelu": _gelu,
    "gelu_new": _gelu_new,
    "quick_gelu": _quick_gelu,
    "silu": _silu,
}
