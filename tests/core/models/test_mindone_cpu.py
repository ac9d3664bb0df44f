"""The replacements of mint functions on a CPU, compared with NumPy."""

import subprocess
import sys

import numpy as np
import pytest
from mindspore import Tensor, mint

from latte_cli.core.models.mindone_cpu import quiet_imports, supply_cpu_kernels

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def supplied() -> None:
    supply_cpu_kernels()


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def test_supplying_kernels_twice_changes_nothing() -> None:
    before = (mint.stack, Tensor.repeat_interleave)
    supply_cpu_kernels()
    assert before == (mint.stack, Tensor.repeat_interleave)


@pytest.mark.slow
def test_importing_mindone_prints_nothing_on_stdout() -> None:
    code = (
        "from latte_cli.core.models.mindone_cpu import quiet_imports, supply_cpu_kernels\n"
        "supply_cpu_kernels()\n"
        "with quiet_imports():\n"
        "    from mindone.diffusers import DDIMScheduler\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == ""


def test_quiet_imports_restores_logging_and_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    with quiet_imports():
        print("chatter")
    print("result")
    assert capsys.readouterr().out == "result\n"
    assert logging.getLogger("latte").isEnabledFor(logging.WARNING)


def test_small_functions_match_numpy() -> None:
    a = numbers(2, 3, 4)
    np.testing.assert_array_equal(mint.stack([Tensor(a), Tensor(a)], dim=1).asnumpy(), np.stack([a, a], 1))
    np.testing.assert_array_equal(mint.arange(2, 9, 3).asnumpy(), np.arange(2, 9, 3))


@pytest.mark.parametrize("dim", [None, 0, 1, -1])
def test_repeat_interleave_matches_numpy(dim: int | None) -> None:
    a = numbers(2, 3, 4)
    expected = np.repeat(a, 3, axis=dim)
    np.testing.assert_array_equal(mint.repeat_interleave(Tensor(a), 3, dim).asnumpy(), expected)
    np.testing.assert_array_equal(Tensor(a).repeat_interleave(3, dim, output_size=1).asnumpy(), expected)


def test_nonzero_matches_numpy() -> None:
    a = (numbers(3, 4) > 0).astype(np.float32)
    np.testing.assert_array_equal(Tensor(a).nonzero().asnumpy(), np.argwhere(a))
    found = Tensor(a).nonzero(as_tuple=True)
    for axis, expected in zip(found, np.nonzero(a), strict=True):
        np.testing.assert_array_equal(axis.asnumpy(), expected)


def test_randn_like_has_the_shape_and_type_of_its_argument() -> None:
    noise = mint.randn_like(Tensor(numbers(2000, 3))).asnumpy()
    assert noise.shape == (2000, 3)
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1) < 0.1
