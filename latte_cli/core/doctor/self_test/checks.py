"""Tests of a device other than comparing the results of a graph: overflow, and the fused attention."""

from collections.abc import Callable

import mindspore as ms
import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.doctor.self_test.drawing import normal
from latte_cli.core.doctor.self_test.graphs import latte, take_step
from latte_cli.core.kernels import flash

HUGE = 2.0**40  # a loss scale that float16 cannot hold
HEADS, FRAMES, TOKENS, WIDTH = 2, 16, 64, 144  # heads of 72, as Latte-XL's
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
    """The error of the fused attention over space and over time, relative to the greatest value."""
    kind = getattr(ms, dtype)
    qkv = ms.Tensor(normal("qkv", 1, FRAMES * TOKENS, 3 * WIDTH)).astype(kind)
    rounded = qkv.astype(ms.float32).asnumpy().astype(np.float64)
    errors = []
    for axis in ("space", "time"):
        found = flash.attention(qkv, HEADS, FRAMES, axis).astype(ms.float32).asnumpy()
        right = attention(rounded, axis)
        errors.append(np.abs(found - right).max() / np.abs(right).max())
    return float(max(errors)) if np.isfinite(errors).all() else float("inf")


def attention(qkv: Array, axis: str) -> Array:
    """Attention of (1, F x T, 3 D) in float64, among the tokens of each frame or over frames."""
    query, key, value = qkv.reshape(FRAMES, TOKENS, 3, HEADS, -1).transpose(2, 3, 0, 1, 4)
    if axis == "time":
        query, key, value = (each.swapaxes(1, 2) for each in (query, key, value))
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ value
    mixed = mixed.swapaxes(1, 2) if axis == "time" else mixed
    return mixed.transpose(1, 2, 0, 3).reshape(1, FRAMES * TOKENS, WIDTH)


FLASH = {f"flash-attention-{dtype}": dtype for dtype in ALLOWED}
OTHERS: dict[str, Callable[[], str]] = {"float16-overflow": overflow}
