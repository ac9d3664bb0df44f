"""Tests of a device other than comparing the results of a graph: overflow, and the fused attention."""

from collections.abc import Callable

import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Array
from latte_cli.core.doctor.self_test.drawing import normal
from latte_cli.core.doctor.self_test.graphs import latte, take_step
from latte_cli.core.kernels import flash

HUGE = 2.0**40  # a loss scale that float16 cannot hold
HEADS, FRAMES, TOKENS, WIDTH = 2, 16, 64, 144  # heads of 72, as Latte-XL's
TEXT_TOKENS = 120  # as the text-to-video model's
ALLOWED = {"float16": 1e-2, "bfloat16": 4e-2}  # relative: two products, and weights that sum to 1


def overflow() -> str:
    """How a float16 step overflows. Raises ValueError if it is not noticed, or changes the weights."""
    model = latte("float16")
    before = [parameter.asnumpy().copy() for parameter in model.trainable_params()]
    done, _ = take_step(model, "float16", HUGE)
    text = f"a loss scale of {HUGE:g} gives a gradient norm of {done.grad_norm:g}"
    if not done.overflow:
        raise ValueError(f"{text}, expected an overflow")
    for parameter, values in zip(model.trainable_params(), before, strict=True):
        if not np.array_equal(parameter.asnumpy(), values):
            raise ValueError(f"{text} and changes {parameter.name}, expected that the step is skipped")
    return text


def flash_error(dtype: str) -> float:
    """The error of the fused attention over space, over time and to texts, relative to the greatest value."""
    kind = getattr(ms, dtype)
    qkv, query, text = (
        ms.Tensor(normal(name, *shape)).astype(kind)
        for name, shape in (
            ("qkv", (1, FRAMES * TOKENS, 3 * WIDTH)),
            ("query", (2, TOKENS, WIDTH)),
            ("text", (2, TEXT_TOKENS, WIDTH)),
        )
    )
    masked = np.arange(TEXT_TOKENS) >= np.array([[5], [1]])  # all but the first tokens of two texts
    to_text = flash.text_attention(query, text, text, ms.Tensor(masked), HEADS)
    pairs = [(to_text, text_attention(_wide(query), _wide(text), masked))]
    pairs += [
        (flash.attention(qkv, HEADS, FRAMES, axis), attention(_wide(qkv), axis)) for axis in ("space", "time")
    ]
    errors = [float(np.abs(_wide(found) - right).max() / np.abs(right).max()) for found, right in pairs]
    return max(errors) if np.isfinite(errors).all() else float("inf")


def attention(qkv: Array, axis: str) -> Array:
    """Attention of (1, F x T, 3 D) in float64, among the tokens of each frame or over frames."""
    query, key, value = qkv.reshape(FRAMES, TOKENS, 3, HEADS, -1).transpose(2, 3, 0, 1, 4)
    if axis == "time":
        query, key, value = (each.swapaxes(1, 2) for each in (query, key, value))
    mixed = _mixed(query, key, value)
    mixed = mixed.swapaxes(1, 2) if axis == "time" else mixed
    return mixed.transpose(1, 2, 0, 3).reshape(1, FRAMES * TOKENS, WIDTH)


def text_attention(query: Array, text: Array, masked: NDArray[np.bool_]) -> Array:
    """Attention of (B, N, D) to (B, T, D) in float64, except to tokens where masked (B, T) is true."""
    queries, keys = (one.reshape(*one.shape[:2], HEADS, -1).swapaxes(1, 2) for one in (query, text))
    mixed = _mixed(queries, keys, keys, masked[:, None, None])
    return mixed.swapaxes(1, 2).reshape(query.shape)


def _mixed(query: Array, key: Array, value: Array, masked: NDArray[np.bool_] | bool = False) -> Array:
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    scores = np.where(masked, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ value


def _wide(x: ms.Tensor) -> Array:
    """The values of a tensor in float64."""
    return x.astype(ms.float32).asnumpy().astype(np.float64)


FLASH = {f"flash-attention-{dtype}": dtype for dtype in ALLOWED}
OTHERS: dict[str, Callable[[], str]] = {"float16-overflow": overflow}
