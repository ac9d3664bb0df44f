"""Compiled functions whose callers sleep until they finish."""

import time

import numpy as np
import pytest
from mindspore import Tensor, ops
from mindspore.graph import api

from latte_cli.core.kernels import operators, signal
from latte_cli.core.kernels.selection import force_kernels
from latte_cli.core.kernels.waiting import Compiled, Inference

SIZE = 1024


def chain(x):  # type: ignore[no-untyped-def]
    """Several matrix products that take some tenths of a second."""
    product = x
    for _ in range(40):
        product = ops.MatMul()(product, x)
    return (product, x + 1), product


@pytest.fixture
def half() -> np.ndarray:
    """A matrix whose product with itself is itself."""
    return np.full((SIZE, SIZE), 1 / SIZE, np.float32)


@pytest.mark.slow
def test_results_equal_those_of_the_function(half: np.ndarray) -> None:
    compiled = Compiled(chain)
    for factor in (1.0, -1.0):
        product, further = compiled(Tensor(half * np.float32(factor)))
        np.testing.assert_allclose(product.asnumpy(), half * factor, rtol=1e-4)
        np.testing.assert_array_equal(further.asnumpy(), half * np.float32(factor) + 1)


def test_compiling_two_functions_gives_no_warning_of_recompilation(
    half: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_one(x):  # type: ignore[no-untyped-def]
        return x + 1, x + 1

    def add_two(x):  # type: ignore[no-untyped-def]
        return x + 2, x + 2

    said: list[str] = []
    monkeypatch.setattr(api.logger, "warning", said.append)
    for function in (add_one, add_two):
        Compiled(function)(Tensor(half))
    assert said == []


def test_without_compiled_kernels_the_results_are_the_same(half: np.ndarray) -> None:
    force_kernels(False)
    try:
        product, _ = Compiled(chain)(Tensor(half))
    finally:
        force_kernels(None)
    np.testing.assert_allclose(product.asnumpy(), half, rtol=1e-4)


@pytest.mark.slow
def test_the_caller_sleeps_while_others_compute(half: np.ndarray) -> None:
    compiled, x = Compiled(chain), Tensor(half)
    compiled(x)
    start, awake = time.perf_counter(), time.thread_time()
    compiled(x)
    assert time.thread_time() - awake < 0.5 * (time.perf_counter() - start)


def test_waiting_for_a_channel_ends_after_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signal, "LONGEST_SECONDS", 0.3)
    start = time.perf_counter()
    signal.wait(signal.new_channel(), 0)
    assert 0.3 <= time.perf_counter() - start < 30


def test_inference_accepts_arrays_and_its_own_results_with_and_without_kernels(path: str) -> None:
    def normed(x, shift):  # type: ignore[no-untyped-def]
        y = operators.modulated_layer_norm(x, shift, shift)
        return y, y

    run, rng = Inference(normed), np.random.default_rng(0)
    x, shift = rng.standard_normal((2, 5, 24), np.float32), rng.standard_normal((2, 24), np.float32)
    once = run(x, shift)
    assert isinstance(once, np.ndarray) == (path == "compiled")
    wide = np.asarray(once, np.float64)
    centred = wide - wide.mean(-1, keepdims=True)
    wanted = centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-6) * (1 + shift[:, None]) + shift[:, None]
    np.testing.assert_allclose(np.asarray(run(once, shift)), wanted, rtol=0, atol=1e-5)


def test_mindspore_can_fuse_operators(half: np.ndarray) -> None:
    product, _ = Compiled(chain, level="O1")(Tensor(half))
    np.testing.assert_allclose(product.asnumpy(), half, rtol=1e-4)
