"""Compare the functions of our models on a CPU with float64, and print the tables of docs/accuracy.md.

`python -m tests.peers.transcendentals`: MindSpore's operators, then what our models take in their place. An
error is counted in units in the last place (ulp) of float32 at the size that the column "of" names: the
result, the argument (an activation is a share of it), or the greatest number of the row that is normalised.
"""

from collections.abc import Callable
from math import pi, sqrt
from typing import Any, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray
from scipy.special import erf, expit

from latte_cli.core.diffusion import losses
from latte_cli.core.kernels import operators as kernels
from latte_cli.core.kernels.selection import force_kernels
from latte_cli.core.models.text.numpy_operators import NumpyOperators
from latte_cli.core.models.vae.convolution import group_norm

Array = NDArray[Any]
COUNT = 999_983  # not a multiple of a processor's vector length
ROWS = (64, 1153)
HEAD = 64  # whose root scales scores exactly


class Case(NamedTuple):
    """A function by its name, its float64 formula, and the arguments that occur, from least to greatest."""

    name: str
    found: Callable[[Array], Array]
    formula: Callable[[Array], Array]
    least: float
    greatest: float
    of: str = "result"


def operator(function: Callable[[Tensor], Tensor]) -> Callable[[Array], Array]:
    """An operator of MindSpore on NumPy arrays."""
    return lambda x: function(Tensor(x)).asnumpy()


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + erf(x * sqrt(0.5)))


def gelu_tanh(x: Array) -> Array:
    return x * expit(2 * sqrt(2 / pi) * (x + 0.044715 * x**3))


def softmax(x: Array) -> Array:
    shares = np.exp(x - x.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def layer_norm(x: Array, eps: float = 1e-6) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)


def rms_norm(x: Array) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def silu(x: Array) -> Array:
    return x * expit(x)


def of_rows(function: Callable[[Tensor], Tensor]) -> Callable[[Array], Array]:
    """A function of (B, N, D) on rows (N, D)."""
    return lambda x: function(Tensor(x[None])).asnumpy()[0]


def nothing(x: Tensor) -> Tensor:
    return ops.zeros((1, x.shape[-1]), ms.float32)


def constants(width: int) -> tuple[Tensor, Tensor]:
    return ops.ones((width,), ms.float32), ops.zeros((width,), ms.float32)


def mindspore_layer_norm(x: Tensor) -> Tensor:
    return ops.LayerNorm(-1, -1, 1e-6)(x, *constants(x.shape[-1]))[0]


def attention(x: Array) -> Array:
    """Our attention's softmax: of scores given as queries, over keys and values that are unit vectors."""
    one = np.eye(HEAD, dtype=np.float32)
    queries = x[:HEAD, :HEAD] * np.float32(sqrt(HEAD))
    qkv = np.concatenate([queries, one, one], axis=1)[None]
    return kernels.attention(Tensor(qkv), 1, 1, "space").asnumpy()[0]


def grouped_silu(x: Array) -> Array:
    """The autoencoder's group norm with SiLU: rows as channels of one image, one group a channel."""
    images = Tensor(x[None, :, None, :])
    return group_norm(images, len(x), *constants(len(x)), eps=1e-6, silu=True).asnumpy()[0, :, 0]


TEXT = NumpyOperators()
OPERATORS = [
    Case("exp", operator(ops.exp), np.exp, -30, 20),
    Case("expm1", operator(ops.expm1), np.expm1, -8, 8),
    Case("log", operator(ops.log), np.log, 1e-12, 1000),
    Case("tanh", operator(ops.tanh), np.tanh, -10, 10),
    Case("erf", operator(ops.erf), erf, -5, 5),
    Case("sigmoid", operator(ops.sigmoid), expit, -20, 20),
    Case("pow 10000^x", operator(lambda x: ops.pow(10000.0, x)), lambda x: 10000.0**x, -1, 0),
    Case("sqrt", operator(ops.sqrt), np.sqrt, 1e-12, 1e6),
    Case("rsqrt", operator(ops.rsqrt), lambda x: 1 / np.sqrt(x), 1e-6, 1e6),
    Case("sin", operator(ops.sin), np.sin, 0, 1000, "unit"),
    Case("cos", operator(ops.cos), np.cos, 0, 1000, "unit"),
    Case("silu", operator(ops.silu), silu, -20, 20, "argument"),
    Case("nn.SiLU", operator(nn.SiLU()), silu, -20, 20, "argument"),
    Case("gelu", operator(lambda x: ops.gelu(x, "none")), gelu, -10, 10, "argument"),
    Case("gelu, tanh", operator(lambda x: ops.gelu(x, "tanh")), gelu_tanh, -10, 10, "argument"),
    Case("softmax", operator(lambda x: ops.softmax(x, -1)), softmax, -20, 20, "row"),
    Case("LayerNorm", operator(mindspore_layer_norm), layer_norm, -5, 8, "row"),
]
OURS = [
    Case("transformer: gelu, tanh", operator(kernels.gelu_tanh), gelu_tanh, -10, 10, "argument"),
    Case("transformer: silu", operator(kernels.silu), silu, -20, 20, "argument"),
    Case("transformer: attention's softmax", attention, lambda x: softmax(x[:HEAD, :HEAD]), -20, 20, "row"),
    Case("transformer: softmax over text", operator(kernels.softmax), softmax, -20, 20, "row"),
    Case(
        "transformer: layer norm",
        of_rows(lambda x: kernels.modulated_layer_norm(x, nothing(x), nothing(x))),
        layer_norm,
        -5,
        8,
        "row",
    ),
    Case("autoencoder: group norm, silu", grouped_silu, lambda x: silu(layer_norm(x)), -5, 8, "row"),
    Case("loss: log", operator(losses._log), np.log, 1e-12, 1),
    Case("loss: exp", operator(losses._exp), np.exp, -10, 10),
    Case("loss: expm1", operator(losses._expm1), np.expm1, -8, 8),
]
TEXTS = [
    *(
        Case(
            f"text: {name}",
            lambda x, name=name: TEXT.activate(name, x[None].copy())[0],
            formula,
            -10,
            10,
            "argument",
        )
        for name, formula in (
            ("gelu", gelu),
            ("gelu_new", gelu_tanh),
            ("quick_gelu", lambda x: x * expit(1.702 * x)),
            ("silu", silu),
        )
    ),
    Case("text: rms norm", lambda x: TEXT.rms_norm(x, np.float32(1), 1e-6), rms_norm, -5, 8, "row"),
    Case(
        "text: layer norm",
        lambda x: TEXT.layer_norm(x, np.float32(1), np.float32(0), 1e-6),
        layer_norm,
        -5,
        8,
        "row",
    ),
]


def arguments(case: Case) -> NDArray[np.float32]:
    """Spread over the range: evenly, by magnitude too where it starts near zero; rows where it normalises."""
    generator = np.random.default_rng(0)
    if case.of == "row":
        return generator.uniform(case.least, case.greatest, ROWS).astype(np.float32)
    even = generator.uniform(case.least, case.greatest, COUNT)
    if 0 < case.least < 1:
        even[::2] = np.exp(generator.uniform(np.log(case.least), np.log(case.greatest), len(even[::2])))
    return even.astype(np.float32)


def measure(case: Case) -> tuple[float, float]:
    """The greatest error: in ulp, and absolute."""
    x = arguments(case)
    expected = case.formula(x.astype(np.float64))
    size = {
        "result": lambda: np.abs(expected),
        "argument": lambda: np.abs(x),
        "row": lambda: np.abs(expected).max(-1, keepdims=True),
        "unit": lambda: np.ones_like(x),
    }[case.of]()
    error = np.abs(case.found(x).astype(np.float64) - expected)
    return float((error / np.spacing(size.astype(np.float32))).max()), float(error.max())


def table(title: str, cases: list[Case]) -> None:
    print(f"\n| {title} | from | to | ulp | of | absolute |\n| --- | --- | --- | --- | --- | --- |")
    for case in cases:
        ulp, absolute = measure(case)
        print(
            f"| {case.name} | {case.least:g} | {case.greatest:g} | {ulp:.3g} | {case.of} | {absolute:.1e} |",
            flush=True,
        )


def main() -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    table("MindSpore's operator", OPERATORS)
    table("of our models, compiled kernels", OURS + TEXTS)
    force_kernels(False)
    table("of our models, no compiled kernels", OURS)


if __name__ == "__main__":
    main()
