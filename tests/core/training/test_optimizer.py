from collections.abc import Callable, Sequence
from typing import TypeAlias

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from latte_cli.core.settings.training import TrainSettings
from latte_cli.core.training.optimizer import AdamW, average_decay, clip_factor, learning_rate

pytestmark = pytest.mark.plain

Apply: TypeAlias = Callable[[Sequence[np.ndarray], int, float, float], None]


@pytest.fixture(params=["in place", "compiled", "in a graph"])
def apply_of(request: pytest.FixtureRequest) -> Callable[[AdamW, float], Apply]:
    """Return a function of (gradients, step, rate, factor) that does a step, by an EMA decay."""

    def of(optimizer: AdamW, ema_decay: float) -> Apply:
        optimizer.in_place = request.param == "in place"
        compiled = optimizer.in_graph(ema_decay)

        @ms.jit
        def in_graph(gradients, step, rate, factor, is_good):  # type: ignore[no-untyped-def]
            compiled(gradients, step, rate, factor, is_good)
            return step

        def apply(gradients: Sequence[np.ndarray], step: int, rate: float, factor: float) -> None:
            tensors = ms.mutable(tuple(Tensor(gradient.astype(np.float32)) for gradient in gradients))
            if request.param != "in a graph":
                average = average_decay(TrainSettings(ema_decay=ema_decay), step)
                optimizer.apply(tensors, step, rate=rate, average=average, factor=factor)
            else:
                numbers = (Tensor(number, ms.float32) for number in (step, rate, factor))
                in_graph(tensors, *numbers, Tensor(True))

        return apply

    return of


@pytest.mark.parametrize("weight_decay", [0.1, 1.0])
def test_adamw_with_decay_and_tiny_gradients_matches_the_formula_in_float64(
    apply_of: Callable[[AdamW, float], Apply], weight_decay: float
) -> None:
    generator = np.random.default_rng(0)
    parameters = [
        Parameter(Tensor(generator.normal(size=shape).astype(np.float32)), name=f"p{place}")
        for place, shape in enumerate([(3, 4), (5,), (2, 3, 2, 2)])
    ]
    values = [parameter.asnumpy().astype(np.float64) for parameter in parameters]
    averages, means, squares = [v.copy() for v in values], [v * 0 for v in values], [v * 0 for v in values]
    optimizer = AdamW(parameters, weight_decay=weight_decay)
    apply = apply_of(optimizer, 0.25)
    for step in range(5):
        decay = min(0.25, (1 + step) / (10 + step))
        gradients = [generator.normal(size=value.shape) * 1e-7 for value in values]
        apply(gradients, step, 1e-2, 0.5)
        for place in range(3):
            gradient = gradients[place] * 0.5
            means[place] = 0.9 * means[place] + 0.1 * gradient
            squares[place] = 0.999 * squares[place] + 0.001 * gradient**2
            root = np.sqrt(squares[place] / (1 - 0.999 ** (step + 1)))
            values[place] *= 1 - 1e-2 * (weight_decay if values[place].ndim > 1 else 0)
            values[place] -= 1e-2 * (means[place] / (1 - 0.9 ** (step + 1))) / (root + 1e-8)
            averages[place] = decay * averages[place] + (1 - decay) * values[place]
    for place in range(3):
        np.testing.assert_allclose(parameters[place].asnumpy(), values[place], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(optimizer.averages[place].asnumpy(), averages[place], rtol=1e-5, atol=1e-6)


def test_a_step_that_is_not_good_changes_nothing_in_a_graph() -> None:
    random = np.random.default_rng(1)
    matrix = Parameter(Tensor(random.normal(size=(3, 4)).astype(np.float32)), name="matrix")
    optimizer = AdamW([matrix], weight_decay=0.1)
    update = optimizer.in_graph(0.5)

    @ms.jit
    def step(gradients, number, is_good):  # type: ignore[no-untyped-def]
        update(gradients, number, number * 0.0 + 1e-2, number * 0.0 + 0.5, is_good)
        return number

    gradient = random.normal(size=(3, 4)).astype(np.float32)
    step(ms.mutable((Tensor(gradient),)), Tensor(3.0, ms.float32), Tensor(True))
    held = [matrix, *optimizer.state().values()]
    before = [tensor.asnumpy().copy() for tensor in held]
    gradient[0] = np.nan, np.inf, -np.inf, 1.0
    step(ms.mutable((Tensor(gradient),)), Tensor(4.0, ms.float32), Tensor(False))
    for tensor, values in zip(held, before, strict=True):
        np.testing.assert_array_equal(tensor.asnumpy(), values)
    step(ms.mutable((Tensor(gradient),)), Tensor(4.0, ms.float32), Tensor(True))
    assert all(np.isnan(tensor.asnumpy()[0, 0]) for tensor in held)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", {0: 0.25, 3: 1.0, 4: 1.0, 54: 1.0, 104: 1.0}),
        ("linear", {0: 0.25, 4: 1.0, 54: 0.5, 104: 0.0}),
        ("cosine", {0: 0.25, 4: 1.0, 54: 0.5, 29: 0.5 + 0.5 * np.cos(np.pi / 4), 104: 0.0}),
    ],
)
def test_the_rate_rises_from_zero_and_then_follows_its_schedule(
    schedule: str, expected: dict[int, float]
) -> None:
    settings = TrainSettings(learning_rate=2e-3, warmup_steps=4, steps=104, schedule=schedule)  # type: ignore[arg-type]
    for step, share in expected.items():
        assert learning_rate(settings, step) == pytest.approx(2e-3 * share, abs=1e-12)


def test_the_decay_of_the_averages_increases_with_the_step() -> None:
    settings = TrainSettings(ema_decay=0.99)
    assert average_decay(settings, 0) == pytest.approx(0.1)
    assert average_decay(settings, 90) == pytest.approx(0.91)
    assert average_decay(settings, 10_000) == 0.99


def test_clipping_starts_at_its_step_and_never_enlarges() -> None:
    settings = TrainSettings(clip_norm=2.0, clip_start=10)
    assert clip_factor(settings, 9, norm=100.0) == 1.0
    assert clip_factor(settings, 10, norm=100.0) == pytest.approx(0.02)
    assert clip_factor(settings, 10, norm=0.5) == 1.0
    assert clip_factor(TrainSettings(), 10, norm=100.0) == 1.0


def test_the_rate_is_zero_after_the_last_step_of_a_linear_schedule() -> None:
    settings = TrainSettings(learning_rate=2e-3, warmup_steps=4, steps=104, schedule="linear")
    assert learning_rate(settings, 120) == 0.0


@pytest.mark.parametrize("steps", [4, 5])
def test_a_run_hardly_longer_than_its_warmup_reaches_the_full_rate(steps: int) -> None:
    settings = TrainSettings(learning_rate=2e-3, warmup_steps=4, steps=steps, schedule="linear")
    assert learning_rate(settings, 4) == 2e-3
    assert learning_rate(settings, 5) == 0.0


def test_gradients_of_norm_zero_are_not_clipped() -> None:
    assert clip_factor(TrainSettings(clip_norm=2.0), 0, norm=0.0) == 1.0


def test_the_optimizer_decays_nothing_by_default_and_its_own_parameters_are_not_trained() -> None:
    parameters = [Parameter(Tensor(np.ones((2, 2), np.float32)), name="matrix")]
    optimizer = AdamW(parameters)
    assert optimizer.decays == (0.0,)
    for own in (optimizer.means, optimizer.squares, optimizer.averages):
        assert [parameter.requires_grad for parameter in own] == [False]


@pytest.mark.parametrize("step", [0, 9, 999, 50_000])
def test_with_constant_gradients_each_step_has_the_size_of_the_rate(
    apply_of: Callable[[AdamW, float], Apply], step: int
) -> None:
    gradient = np.array([0.5, -3.0], np.float32)
    parameter = Parameter(Tensor(np.array([1.0, -2.0], np.float32)), name="only")
    optimizer = AdamW([parameter])
    # The moments after `step` equal gradients, before bias correction.
    optimizer.means[0].set_data(Tensor((1 - 0.9**step) * gradient, ms.float32))
    optimizer.squares[0].set_data(Tensor((1 - 0.999**step) * gradient**2, ms.float32))
    apply_of(optimizer, 0.1)([gradient], step, 0.1, 1.0)
    np.testing.assert_allclose(parameter.asnumpy(), [0.9, -1.9], rtol=5e-6)
    np.testing.assert_allclose(optimizer.averages[0].asnumpy(), [0.91, -1.91], rtol=1e-6)
