"""Attention by Ascend's fused operator. It keeps to MindSpore's documentation, **untested on Ascend**.

https://www.mindspore.cn/docs/en/stable/api_python/ops/mindspore.ops.flash_attention_score.html
Everything about the operator is in this file; device.py says when it is used.
"""

from mindspore import Tensor, ops

HEAD_MULTIPLE = 16  # a head is as wide as a multiple of this: Latte-XL's 72 are filled up to 80
MOST_SEQUENCES = 2000  # "1 to 2k" at once


def attention(qkv: Tensor, num_heads: int, num_frames: int, axis: str) -> Tensor:
    """Give what `kernels.attention` gives, of float16 or bfloat16, without keeping the scores."""
    clips, number, channels = qkv.shape
    tokens, width = number // num_frames, channels // 3
    head_dim = width // num_heads
    length = tokens if axis == "space" else num_frames
    if length == 1:
        return qkv[:, :, 2 * width :]  # softmax over one is 1
    parts = qkv.reshape(clips, num_frames, tokens, 3, num_heads, head_dim)
    order = (3, 0, 1, 2, 4, 5) if axis == "space" else (3, 0, 2, 1, 4, 5)
    # BSND: sequences, places, heads, channels
    apart = parts.transpose(order).reshape(3, -1, length, num_heads, head_dim)
    if head_dim % HEAD_MULTIPLE:  # zeros change no score, and add channels of zeros to what is mixed
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
