"""AdamW with averages, the global norm and accumulation against float64, on both paths."""

import ctypes

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from latte_cli.core.kernels.build import library_path
from latte_cli.core.kernels.optimizer import Buffers, accumulate, adamw_ema, global_norm

SHAPES = [(3,), (7, 5), (1,), (40000,), (129, 257)]
BETAS, EPSILON, RATE = (0.9, 0.999), 1e-8, 3e-3
DECAYS = [0.0, 0.1, 0.0, 0.02, 0.1]


def randoms(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def reference_steps(
    start: list[np.ndarray], steps: int, factor: float, average: float
) -> dict[str, list[np.ndarray]]:
    """Loshchilov & Hutter 2019, algorithm 2, epsilon outside of the corrected root as in torch."""
    result: dict[str, list[np.ndarray]] = {"parameters": [], "means": [], "squares": [], "averages": []}
    for place, first in enumerate(start):
        parameter, mean, square = first.astype(np.float64), np.zeros(first.shape), np.zeros(first.shape)
        averaged = parameter.copy()
        for step in range(1, steps + 1):
            gradient = randoms(step)[place].astype(np.float64) * factor
            mean = BETAS[0] * mean + (1 - BETAS[0]) * gradient
            square = BETAS[1] * square + (1 - BETAS[1]) * gradient**2
            corrected, root = mean / (1 - BETAS[0] ** step), np.sqrt(square / (1 - BETAS[1] ** step))
            parameter = parameter * (1 - RATE * DECAYS[place]) - RATE * corrected / (root + EPSILON)
            averaged = average * averaged + (1 - average) * parameter
        for name, value in zip(result, (parameter, mean, square, averaged), strict=True):
            result[name].append(value)
    return result


def tensors(arrays: list[np.ndarray]) -> list[Parameter]:
    return [Parameter(Tensor(array), name=f"p{place}") for place, array in enumerate(arrays)]


def fresh_buffers() -> Buffers:
    zeros = [np.zeros(shape, np.float32) for shape in SHAPES]
    return Buffers(tensors(randoms(0)), tensors(zeros), tensors(zeros), tensors(randoms(0)), DECAYS)


def test_four_in_place_steps_match_the_formula(path: str) -> None:
    buffers = fresh_buffers()
    for step in range(4):
        gradients = [Tensor(array) for array in randoms(step + 1)]
        adamw_ema(buffers, gradients, step=step, rate=RATE, factor=0.7, average=0.9)
    expected = reference_steps(randoms(0), 4, 0.7, 0.9)
    for name, values in expected.items():
        for found, value in zip(getattr(buffers, name), values, strict=True):
            np.testing.assert_allclose(
                found.asnumpy(), value, rtol=1e-5, atol=1e-6 * np.abs(value).max(), err_msg=name
            )


def test_a_compiled_graph_sees_the_new_weights(path: str) -> None:
    weight = Parameter(Tensor(np.ones(4, np.float32)), name="w")
    zeros = [np.zeros(4, np.float32)], [np.zeros(4, np.float32)]

    @ms.jit
    def total(x: Tensor) -> Tensor:
        return (weight * x).sum()

    assert float(total(Tensor(1.0))) == 4.0
    adamw_ema(Buffers([weight], *zeros, None, [0.0]), [np.ones(4, np.float32)], step=0, rate=0.5)
    assert float(total(Tensor(1.0))) == pytest.approx(2.0, abs=1e-6)


def test_the_norm_and_the_sum_match_float64(path: str) -> None:
    values, more = randoms(0), randoms(1)
    expected = np.sqrt(sum((value.astype(np.float64) ** 2).sum() for value in values))
    assert global_norm([Tensor(value) for value in values]) == pytest.approx(expected, rel=1e-9)
    sums = [value.copy() for value in values]
    accumulate(sums, more)
    for found, first, second in zip(sums, values, more, strict=True):
        np.testing.assert_array_equal(found, first + second)


def test_a_nan_appears_in_the_norm_and_the_weights(path: str) -> None:
    gradients = randoms(1)
    gradients[3][39999] = np.nan
    assert np.isnan(global_norm(gradients))
    buffers = fresh_buffers()
    adamw_ema(buffers, gradients, step=0, rate=RATE, average=0.9)
    assert np.isnan(buffers.parameters[3].asnumpy()[39999])
    assert np.isnan(buffers.averages[3].asnumpy()[39999])


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    library = ctypes.CDLL(str(library_path()))
    threads, results = library.latte_threads(), []
    for number in (1, 2, 3):
        library.latte_set_threads(number)
        buffers = fresh_buffers()
        adamw_ema(buffers, randoms(1), step=0, rate=RATE, average=0.9)
        norm = global_norm(buffers.parameters)
        results.append((norm, *[value.asnumpy().tobytes() for group in buffers[:4] for value in group]))
    library.latte_set_threads(threads)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (np.zeros(4, np.float16), "expected float32, got float16"),
        (np.zeros((4, 2), np.float32)[:, 0], "got a copy or a read-only array"),
        (np.zeros(3, np.float32), "expected tensors of one size"),
    ],
)
def test_an_array_that_cannot_be_updated_in_place_is_rejected(parameter: np.ndarray, message: str) -> None:
    four = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match=message):
        adamw_ema(Buffers([parameter], [four], [four.copy()], None, [0.0]), [four.copy()], step=0, rate=RATE)
