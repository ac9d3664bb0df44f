"""Operators of text encoders: NumPy on a CPU, MindSpore on other devices.

On a CPU, MindSpore's exp and tanh have errors of 100 to 1,700 units in the last place, NumPy's of 3.
"""

from typing import Any, Protocol

from latte_cli.core.arrays import Array


class Operators(Protocol):
    """Operators on arrays of one library, which support +, * and reshape. x is (texts, tokens, width)."""

    texts: int
    """Number of texts processed each time a weight is read."""

    def array(self, numbers: Array) -> Any:
        """Convert to an array of the library."""
        ...

    def numbers(self, x: Any) -> Array:
        """Convert to NumPy."""
        ...

    def linear(self, x: Any, weight: Array, bias: Array | None = None, *, wide: bool = False) -> Any:
        """x weight.T + bias; `wide`: always in float32."""
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
