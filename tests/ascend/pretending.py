"""What lets this program take a CPU for an Ascend device."""

from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops


def answer_ascend(replace: Callable[[object, str, Any], None] = setattr) -> Callable[[str], Any]:
    """Answer Ascend where this program asks MindSpore for its device; returns the function that answers.

    MindSpore itself asks elsewhere. replace: sets an attribute.
    """
    real = ms.get_context

    def get_context(key: str) -> Any:
        return "Ascend" if key == "device_target" else real(key)

    replace(ms, "get_context", get_context)
    return get_context


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """`ops.flash_attention_score` for layout BSND, in float32: softmax(scale * query @ key.T) @ value per
    sequence and head, by operators that have gradients; where the mask is true, weights are 0.
    """
    q, k, v = [one.astype(ms.float32).transpose(0, 2, 1, 3) for one in (query, key, value)]
    scores = ops.BatchMatMul(transpose_b=True)(q, k) * scale
    if mask is not None:
        scores = scores + ops.broadcast_to(mask.astype(ms.float32), scores.shape) * -1e30
    mixed = ops.BatchMatMul()(ops.softmax(scores, -1), v)
    return mixed.transpose(0, 2, 1, 3).astype(query.dtype)
