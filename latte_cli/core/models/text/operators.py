"""What a text encoder computes with: NumPy on a CPU, MindSpore's operators on another device.

NumPy, since MindSpore's exp and tanh are off by 100 to 1,700 units in the last place on a CPU, NumPy's by 3.
"""

from typing import Any, Protocol

from latte_cli.core.arrays import Array


class Operators(Protocol):
    """Operators on arrays of one library, which share +, * and reshape. x is (texts, tokens, width)."""

    texts: int
    """Texts that go through a weight each time that it is read."""

    def array(self, numbers: Array) -> Any:
        """Numbers as an array of the library."""
        ...

    def numbers(self, x: Any) -> Array:
        """An array's numbers."""
        ...

    def linear(self, x: Any, weight: Array, bias: Array | None = None, *, wide: bool = False) -> Any:
        """x weight.T + bias; `wide`: in float32 whatever the device's type is."""
        ...

    def attend(self, query: Any, key: Any, value: Any, *, bias: Any, heads: int, scale: float) -> Any:
        """softmax(scale query key.T + bias) value in `heads` heads; bias broadcasts to (texts, heads, tokens,
        tokens)."""
        ...

    def rms_norm(self, x: Any, weight: Array, eps: float) -> Any:
        """x / sqrt(mean(x^2) + eps) weight (Zhang and Sennrich 2019)."""
        ...

    def layer_norm(self, x: Any, weight: Array, bias: Array, eps: float) -> Any:
        """(x - mean(x)) / sqrt(var(x) + eps) weight + bias (Ba et al. 2016)."""
        ...

    def activate(self, name: str, x: Any) -> Any:
        """One of ACTIVATIONS; x may be overwritten."""
        ...


ACTIVATIONS = ("relu", "gelu", "gelu_new", "quick_gelu", "silu")
"""gelu is x Phi(x), gelu_new its form with tanh (Hendrycks and Gimpel 2016), quick_gelu its form with a
sigmoid of 1.702 x."""


def operators_for(dtype: str) -> Operators:
    """Those of the device in use: products in `dtype` where it is not a CPU, else in float32."""
    from latte_cli.core.device import device_in_use

    if device_in_use() == "cpu":
        from latte_cli.core.models.text.numpy_operators import NumpyOperators

        return NumpyOperators()
    from latte_cli.core.models.text.mindspore_operators import MindSporeOperators

    return MindSporeOperators(dtype)
