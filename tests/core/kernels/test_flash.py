"""How Ascend's fused attention is called: its operator is replaced by the documented formula in NumPy."""

from typing import Any

import numpy as np
import pytest
from mindspore import Tensor, ops

from latte_cli.core.kernels import flash
from latte_cli.core.kernels import operators as kernels
from tests.core.kernels import reference


def documented(  # the operator's signature
    query: Tensor, key: Tensor, value: Tensor, head_num: int, *, scalar_value: float, input_layout: str
) -> Tensor:
    """softmax(scale * query @ key.T) @ value for each sequence and head, within the operator's limits."""
    arrays = [tensor.asnumpy() for tensor in (query, key, value)]
    assert input_layout == "BSND"
    assert {array.dtype for array in arrays} == {np.dtype(np.float16)}
    sequences, _, heads, channels = arrays[0].shape
    assert heads == head_num
    assert channels % 16 == 0
    assert 1 <= sequences <= 2000
    assert channels <= 512
    q, k, v = (array.astype(np.float64) for array in arrays)
    scores = scalar_value * np.einsum("bsnd,btnd->bnst", q, k)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return Tensor(np.einsum("bnst,btnd->bsnd", weights, v).astype(np.float16))


@pytest.fixture(autouse=True)
def _operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "flash_attention_score", documented)


@pytest.mark.parametrize("axis", ["space", "time"])
@pytest.mark.parametrize(
    ("clips", "frames", "tokens", "width", "heads"),
    [
        (2, 3, 4, 96, 3),  # heads of 32
        (1, 4, 6, 144, 2),  # of 72, as Latte-XL's
        (2, 16, 4, 24, 3),  # of 8
        (2, 1, 5, 32, 1),  # one frame: nothing to attend to over time
    ],
)
def test_layout_scale_and_heads_are_those_of_the_formula(
    clips: int, frames: int, tokens: int, width: int, heads: int, axis: str
) -> None:
    random = np.random.default_rng(width)
    qkv = random.normal(size=(clips, frames * tokens, 3 * width)).astype(np.float16)
    bias = random.normal(size=3 * width).astype(np.float32)
    found = kernels.attention(Tensor(qkv), heads, frames, axis, bias=Tensor(bias), flash_attention=True)
    biased = (qkv + bias.astype(np.float16)).astype(np.float64)
    expected = reference.attention(biased, heads, frames, axis)
    assert found.asnumpy().dtype == np.float16
    np.testing.assert_allclose(found.asnumpy(), expected, rtol=0, atol=3e-3)


def test_more_sequences_than_the_operator_accepts_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(query: Tensor, *others: Any, **options: Any) -> Tensor:
        calls.append(query.shape[0])
        return documented(query, *others, **options)

    monkeypatch.setattr(ops, "flash_attention_score", counted)
    qkv = np.random.default_rng(0).normal(size=(9, 2 * 256, 3 * 16)).astype(np.float16)
    found = flash.attention(Tensor(qkv), 1, 2, "time")
    assert calls == [2000, 9 * 256 - 2000]
    expected = reference.attention(qkv.astype(np.float64), 1, 2, "time")
    np.testing.assert_allclose(found.asnumpy(), expected, rtol=0, atol=3e-3)
