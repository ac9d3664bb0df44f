"""Spatial and temporal attention, compared with float64: both paths, values and gradients."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from latte_cli.core.kernels import operators as kernels
from tests.core.kernels import reference
from tests.core.kernels.compare import assert_close, value_and_grads

# batch, frames, tokens, width, heads
SIZES = [
    (1, 1, 1, 6, 2),
    (2, 3, 4, 24, 3),
    (1, 5, 7, 36, 2),
    (2, 16, 16, 144, 3),
    (1, 2, 70, 64, 2),
    (1, 2, 256, 384, 6),
]


@pytest.mark.parametrize("axis", ["space", "time"])
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients_match_the_formula(
    size: tuple[int, int, int, int, int], jit: bool, axis: str, path: str
) -> None:
    batch, frames, tokens, width, heads = size
    rng = np.random.default_rng(tokens)
    qkv = rng.normal(size=(batch, frames * tokens, 3 * width)).astype(np.float32)
    bias = rng.normal(size=3 * width).astype(np.float32)
    dout = rng.normal(size=(batch, frames * tokens, width)).astype(np.float32)

    def attention(qkv: Tensor, bias: Tensor) -> Tensor:
        return kernels.attention(qkv, heads, frames, axis, bias=bias)

    out, (dqkv, dbias) = value_and_grads(attention, [qkv, bias], dout, jit=jit)
    wide = qkv.astype(np.float64) + bias
    expected = reference.attention_grad(wide, heads, frames, axis, dout.astype(np.float64))
    assert_close(out, reference.attention(wide, heads, frames, axis), "value")
    assert_close(dqkv, expected, "gradient of qkv", 2e-5)
    # The bias of the keys has no effect on the softmax: its gradient is only rounding.
    assert_close(dbias, expected.sum((0, 1)), "gradient of the bias", 2e-5)


def test_scores_too_large_for_exp_do_not_overflow(path: str) -> None:
    qkv = np.random.default_rng(0).normal(size=(1, 12, 72), scale=40).astype(np.float32)
    out = kernels.attention(Tensor(qkv), 3, 3, "space").asnumpy()
    assert_close(out, reference.attention(qkv.astype(np.float64), 3, 3, "space"), "value")


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_nan_affects_only_its_own_sequence_and_head(part: int, path: str) -> None:
    qkv = np.random.default_rng(0).normal(size=(1, 3 * 4, 3 * 24)).astype(np.float32)
    qkv[0, 5, part * 24 + 9] = np.nan  # frame 1, head 1
    out = kernels.attention(Tensor(qkv), 3, 3, "space").asnumpy().reshape(3, 4, 3, 8)
    assert np.isnan(out[1, :, 1]).any()
    out[1, :, 1] = 0
    assert np.isfinite(out).all()


@pytest.mark.parametrize("axis", ["space", "time"])
def test_half_precision_keeps_its_type_and_accuracy(axis: str, path: str) -> None:
    qkv = np.random.default_rng(0).normal(size=(2, 12, 72)).astype(np.float16)
    out = kernels.attention(Tensor(qkv), 3, 3, axis)
    assert out.dtype == ms.float16
    assert_close(out.asnumpy(), reference.attention(qkv.astype(np.float64), 3, 3, axis), axis, 2e-3)
