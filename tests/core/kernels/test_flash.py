"""Calls of Ascend's fused attention, whose operator is replaced by one that follows its documentation."""

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

from latte_cli.core.kernels import flash, plain
from latte_cli.core.kernels import operators as kernels
from tests.ascend.pretending import attend
from tests.core.kernels import reference

MASKED = -10000.0


def check_limits(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None) -> None:
    """The limits of layout BSND: the types, the sizes and the mask's shape."""
    assert {tensor.dtype for tensor in (query, key, value)} == {ms.float16}
    sequences, positions, found_heads, channels = query.shape
    assert key.shape == value.shape == (sequences, key.shape[1], found_heads, channels)
    assert found_heads == heads
    assert channels % 16 == 0
    assert 1 <= sequences <= 2000
    assert channels <= 512
    if mask is not None:
        assert mask.dtype in (ms.bool_, ms.uint8)
        assert mask.shape == (sequences, 1, positions, key.shape[1])


def operator(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The operator, computed by a function of (query, key, value, mask, scale)."""

    def called(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        head_num: int,
        *,
        attn_mask: Tensor | None = None,
        scalar_value: float = 1.0,
        input_layout: str = "BSH",
    ) -> Tensor:
        assert input_layout == "BSND"
        check_limits(query, key, value, head_num, attn_mask)
        return compute(query, key, value, attn_mask, scalar_value)

    return called


@operator
def documented(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """softmax(mask(scale * query @ key.T)) @ value per sequence and head; where the mask is 1, weights are 0.

    In float64, by NumPy.
    """
    q, k, v = (tensor.asnumpy().astype(np.float64) for tensor in (query, key, value))
    scores = scale * np.einsum("bsnd,btnd->bnst", q, k)
    if mask is not None:
        scores = np.where(mask.asnumpy() == 1, -np.inf, scores)
    mixed = np.einsum("bnst,btnd->bsnd", reference.softmax(scores), v)
    return Tensor(mixed.astype(np.float16))


differentiable = operator(attend)
"""`documented`, with operators that have gradients."""


@pytest.fixture(autouse=True)
def _operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "flash_attention_score", documented)


SIZES = [
    (2, 3, 4, 96, 3),  # heads of 32
    (1, 4, 6, 144, 2),  # of 72, as Latte-XL's
    (2, 16, 4, 24, 3),  # of 8
    (2, 1, 5, 32, 1),  # one frame: nothing to attend to over time
]


@pytest.mark.parametrize("axis", ["space", "time"])
@pytest.mark.parametrize(("clips", "frames", "tokens", "width", "heads"), SIZES)
def test_the_output_matches_the_formula_for_all_shapes(
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


def texts(width: int, tokens: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Queries of 2 clips, keys, values, and score biases that mask all but 3 and 1 of the texts' tokens."""
    random = np.random.default_rng(width)
    sizes = ((2, 10, width), (2, tokens, width), (2, tokens, width))
    bias = np.full((2, tokens), MASKED, np.float32)
    bias[0, :3] = 0
    bias[1, 0] = 0
    return [random.normal(size=size).astype(np.float16) for size in sizes], bias


@pytest.mark.parametrize(("width", "heads", "tokens"), [(96, 3, 7), (144, 2, 120), (24, 3, 5)])
def test_tokens_of_negative_bias_are_masked_in_attention_to_text(width: int, heads: int, tokens: int) -> None:
    arrays, bias = texts(width, tokens)
    inputs = [Tensor(array) for array in arrays]
    found = kernels.text_attention(*inputs, Tensor(bias), heads, flash_attention=True).asnumpy()
    q, k, v = (a.reshape(2, -1, heads, width // heads).astype(np.float64) for a in arrays)
    for clip, kept in enumerate((3, 1)):
        scores = np.einsum("snd,tnd->nst", q[clip], k[clip, :kept]) / np.sqrt(width // heads)
        mixed = np.einsum("nst,tnd->snd", reference.softmax(scores), v[clip, :kept])
        expected = mixed.reshape(10, width)
        np.testing.assert_allclose(found[clip], expected, rtol=0, atol=3e-3)


@pytest.mark.parametrize("axis", ["space", "time"])
def test_gradients_match_those_of_plain_operators_with_padded_heads(
    axis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "flash_attention_score", differentiable)
    random = np.random.default_rng(3)
    qkv = random.normal(size=(2, 3 * 4, 3 * 144)).astype(np.float16)
    weight = Tensor(random.normal(size=(2, 3 * 4, 144)).astype(np.float32))

    def by_flash(x: Tensor) -> Tensor:
        return (flash.attention(x, 2, 3, axis).astype(ms.float32) * weight).sum()

    def by_operators(x: Tensor) -> Tensor:
        return (plain.attention(x, 2, 3, axis) * weight).sum()

    found = ms.grad(by_flash)(Tensor(qkv)).asnumpy()
    expected = ms.grad(by_operators)(Tensor(qkv.astype(np.float32))).asnumpy()
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2)


def test_gradients_of_attention_to_text_are_zero_at_masked_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "flash_attention_score", differentiable)
    arrays, bias = texts(144, 7)
    weight = Tensor(np.random.default_rng(4).normal(size=arrays[0].shape).astype(np.float32))

    def total(query: Tensor, key: Tensor, value: Tensor, *, fused: bool) -> Tensor:
        mixed = kernels.text_attention(query, key, value, Tensor(bias), 2, flash_attention=fused)
        return (mixed.astype(ms.float32) * weight).sum()

    gradient = ms.grad(total, (0, 1, 2))
    found = [one.asnumpy() for one in gradient(*map(Tensor, arrays), fused=True)]
    wide = [Tensor(array.astype(np.float32)) for array in arrays]
    for one, other in zip(found, gradient(*wide, fused=False), strict=True):
        np.testing.assert_allclose(one, other.asnumpy(), rtol=0, atol=1e-2)
    for one in found[1:]:
        assert (one[0, 3:] == 0).all()
        assert (one[1, 1:] == 0).all()
        assert np.abs(one[:, 0]).max() > 0.1
