"""What each graph of `graphs` should compute: recorded from PyTorch, or by a formula in float64.

The recorded numbers are in assets/self_test.npz, made by the repository's `tests/peers/record_doctor.py`.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.doctor.self_test.drawing import normal
from latte_cli.core.doctor.self_test.graphs import EMA_DECAY, FLOATS, text_encoding
from latte_cli.core.doctor.self_test.rows import Results

RECORDED = Path(__file__).parents[3] / "assets" / "self_test.npz"
# Relative to the greatest number. float32: an accelerator rounds the inputs of convolutions to 11 bits, which
# is 2^-11 for each of a few layers. float16 has 11 bits in every product, bfloat16 has 8.
ALLOWED = {"float32": 2e-3, "float16": 2e-2, "bfloat16": 1.6e-1}
RECORDED_AS = {
    "latte-accumulation": "latte-train",
    "latte-classes-guided": "latte-classes",
    "latte-linear-patches": "latte-train",
    "latte-recompute": "latte-train",
}
REUSE = {"latte-reuse": "latte-sample", "t2v-reuse": "t2v-sample"}
HALF = (*RECORDED_AS, "latte-captions", "latte-joint", "t2v-lora", "t2v-reuse")
"""Graphs in float16 whose names do not say so."""


def expected_of(name: str) -> Results:
    """The results that the graph of a name should have."""
    plain, _ = _split(name)
    if plain in FORMULAS:
        return FORMULAS[plain]()
    if plain in REUSE:
        return {"out": np.repeat(expected_of(REUSE[plain])["out"], 2, axis=0)}
    prefix = RECORDED_AS.get(plain, plain) + "/"
    found = {key.removeprefix(prefix): one for key, one in _recorded().items() if key.startswith(prefix)}
    if not found:
        raise KeyError(name)
    if "norms" in found:
        found["norm"] = np.sqrt(np.square(found["norms"], dtype=np.float64).sum(keepdims=True))
    return found


def allowed_of(name: str) -> float:
    """The relative error that is allowed for the graph of a name."""
    return ALLOWED[_split(name)[1]]


def _split(name: str) -> tuple[str, str]:
    """A graph's name without its type, and its type."""
    plain, _, dtype = name.rpartition("-")
    if dtype in FLOATS:
        return plain, dtype
    return name, "float16" if name in HALF else "float32"


@cache
def _recorded() -> dict[str, Array]:
    with np.load(RECORDED, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _optimizer() -> Results:
    """Two steps of AdamW (Loshchilov & Hutter 2019), and the averages."""
    found: Results = {}
    for name, shape, decay in (("w", (3, 5), 0.1), ("b", (5,), 0.0)):
        value = normal(f"parameter {name}", *shape).astype(np.float64)
        gradient = 0.5 * normal(f"gradient {name}", *shape).astype(np.float64)
        average, mean, square = value.copy(), np.zeros(shape), np.zeros(shape)
        for step, keep in ((1, 1 / 10), (2, EMA_DECAY)):
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            change = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
            value = value * (1 - 1e-2 * decay) - 1e-2 * change
            average = keep * average + (1 - keep) * value
        named = {f"parameter {name}": value, f"average {name}": average}
        found |= {key: one.astype(np.float32) for key, one in named.items()}
    return found


def _text() -> Results:
    from latte_cli.core.models.text.numpy_operators import NumpyOperators

    return text_encoding(NumpyOperators(), lambda encode: encode)


FORMULAS: dict[str, Callable[[], Results]] = {
    "optimizer": _optimizer,
    "text": _text,
}
