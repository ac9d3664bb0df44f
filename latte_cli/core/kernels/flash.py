"""Attention with Ascend's fused operator. Follows MindSpore's documentation, **untested on Ascend**.

https://www.mindspore.cn/docs/en/stable/api_python/ops/mindspore.ops.flash_attention_score.html
Everything about the operator is in this file; device.py decides when it is used.
"""

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
    if head_dim % HEAD_MULTIPLE:  # zeros do not change scores and only add zero channels to the output
        missing = HEAD_MULTIPLE - head_dim % HEAD_MULTIPLE
        apart = ops.concat((apart, ops.zeros((*apart.shape[:-1], missing), apart.dtype)), -1)
    mixed = ops.concat(
        [
            ops.flash_attention_score(
                apart[0, start : start + MOST_SEQUENCES],
                apart[1, start : start + MOST_SEQUENCES],
                apart[2, start : start + MOST_SEQUENCES],
                num_heads,
                scalar_value=head_dim**-0.5,
                input_layout="BSND",
            )
            for start in range(0, apart.shape[1], MOST_SEQUENCES)
        ],
        0,
    )[..., :head_dim]
    if axis == "time":
        mixed = mixed.reshape(clips, tokens, num_frames, width).swapaxes(1, 2)
    return mixed.reshape(clips, number, width)
