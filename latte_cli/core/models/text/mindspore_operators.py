"""A text encoder's operators on Ascend and GPU, with MindSpore: products in `dtype`, the others in float32.

Follows MindSpore's documentation; tested on a CPU, untested on Ascend and GPU.
"""

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from latte_cli.core.arrays import Array


class MindSporeOperators:
    """See `Operators`."""

    texts = 128

    def __init__(self, dtype: str):
        self._dtype = getattr(ms, dtype)

    def array(self, numbers: Array) -> Tensor:
        return Tensor(np.ascontiguousarray(numbers))

    def numbers(self, x: Tensor) -> Array:
        return np.asarray(x.asnumpy(), np.float32)

    def linear(self, x: Tensor, weight: Array, bias: Array | None = None, *, wide: bool = False) -> Tensor:
        dtype = ms.float32 if wide else self._dtype
        matrix = self.array(weight).astype(dtype)
        rows = x.reshape((-1, x.shape[-1])).astype(dtype)
        product = ops.MatMul(transpose_b=True)(rows, matrix).astype(ms.float32)
        product = product.reshape((*x.shape[:-1], matrix.shape[0]))
        return product if bias is None else product + self.array(bias)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, bias: Any, heads: int, scale: float
    ) -> Tensor:
        texts, tokens, _ = query.shape
        query, key, value = (
            each.reshape((texts, tokens, heads, -1)).transpose((0, 2, 1, 3)).astype(self._dtype)
            for each in (query, key, value)
        )
        scores = ops.BatchMatMul(transpose_b=True)(query, key).astype(ms.float32) * scale + bias
        mixed = ops.BatchMatMul()(ops.softmax(scores, axis=-1).astype(self._dtype), value)
        return mixed.astype(ms.float32).transpose((0, 2, 1, 3)).reshape((texts, tokens, -1))

    def rms_norm(self, x: Tensor, weight: Array, eps: float) -> Tensor:
        return x * ops.rsqrt(ops.square(x).mean(-1, keep_dims=True) + eps) * self.array(weight)

    def layer_norm(self, x: Tensor, weight: Array, bias: Array, eps: float) -> Tensor:
        return ops.LayerNorm(-1, -1, eps)(x, self.array(weight), self.array(bias))[0]

    def activate(self, name: str, x: Tensor) -> Tensor:
        if name == "quick_gelu":
            return x * ops.sigmoid(1.702 * x)
        if name in ("gelu", "gelu_new"):
            return ops.gelu(x, approximate="none" if name == "gelu" else "tanh")
        return {"relu": ops.relu, "silu": ops.silu}[name](x)
