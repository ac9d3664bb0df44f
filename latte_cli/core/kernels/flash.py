"""Attention with Ascend's fused operator. Follows MindSpore's documentation, **untested on Ascend**.

https://www.mindspore.cn/docs/en/stable/api_python/ops/mindspore.ops.flash_attention_score.html
Everything about the operator is in this file; device.py decides when it is used.
"""

from collections.abc import Sequence

from mindspore import Tensor, ops

HEAD_MULTIPLE = 16  # the head width must be a multiple of this: Latte-XL's 72 are padded to 80
MOST_SEQUENCES = 2000  # "1 to 2k" per call


def attention(qkv: Tensor, num_heads: int, num_frames: int, axis: str) -> Tensor:
    """Like `operators.attention`, for float16 or bfloat16, without storing the scores."""
    clips, number, channels = qkv.shape
    tokens, width = number // num_frames, channels // 3
    head_dim = width // num_heads
    length = tokens if axis == "space" else num_frames
    if length == 1:
        return qkv[:, :, 2 * width :]  # the softmax over one element is 1
    parts = qkv.reshape(clips, num_frames, tokens, 3, num_heads, head_dim)
    order = (3, 0, 1, 2, 4, 5) if axis == "space" else (3, 0, 2, 1, 4, 5)
    # BSND: sequences, positions, heads, channels
    apart = parts.transpose(order).reshape(3, -1, length, num_heads, head_dim)
    mixed = _attend(_filled(apart), num_heads, head_dim**-0.5, None)[..., :head_dim]
    if axis == "time":
        mixed = mixed.reshape(clips, tokens, num_frames, width).swapaxes(1, 2)
    return mixed.reshape(clips, number, width)


def text_attention(query: Tensor, key: Tensor, value: Tensor, masked: Tensor, num_heads: int) -> Tensor:
    """Like `operators.text_attention`, for float16 or bfloat16, without storing the scores.

    masked: (B, N) bool, true where a token is not attended to. Each text must have a token that is.
    """
    clips, number, width = query.shape
    head_dim = width // num_heads
    apart = [_filled(one.reshape(clips, -1, num_heads, head_dim)) for one in (query, key, value)]
    mask = ops.broadcast_to(masked.reshape(clips, 1, 1, -1), (clips, 1, number, masked.shape[1]))
    return _attend(apart, num_heads, head_dim**-0.5, mask)[..., :head_dim].reshape(clips, number, width)


def _filled(x: Tensor) -> Tensor:
    """Heads (..., channels) with zeros up to a multiple of HEAD_MULTIPLE.

    They change no score, and only add zeros to the output.
    """
    missing = -x.shape[-1] % HEAD_MULTIPLE
    return ops.concat((x, ops.zeros((*x.shape[:-1], missing), x.dtype)), -1) if missing else x


def _attend(apart: Sequence[Tensor], num_heads: int, scale: float, mask: Tensor | None) -> Tensor:
    """The operator for queries, keys and values (B, S, heads, channels) each, and a mask (B, 1, S1, S2)."""
    outputs = []
    for start in range(0, apart[0].shape[0], MOST_SEQUENCES):
        end = start + MOST_SEQUENCES
        outputs.append(
            ops.flash_attention_score(
                apart[0][start:end],
                apart[1][start:end],
                apart[2][start:end],
                num_heads,
                attn_mask=None if mask is None else mask[start:end],
                scalar_value=scale,
                input_layout="BSND",
            )
        )
    return ops.concat(outputs, 0)
