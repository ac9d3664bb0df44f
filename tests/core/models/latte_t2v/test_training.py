"""A training step of the text-to-video transformer against finite differences of a float64 model."""

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.models.architectures import ARCHITECTURES
from latte_cli.core.models.latte_t2v.transformer import LatteT2V, pack_text
from latte_cli.core.models.lora import add_lora, train_only
from latte_cli.core.models.weights import load_weights
from latte_cli.core.settings.schema import DiffusionSettings
from latte_cli.core.training.inputs import StepInputs
from latte_cli.core.training.step import GradientStep
from tests.core.models.latte_t2v import reference
from tests.core.models.latte_t2v.golden import FOLDER, SHAPE

pytestmark = [pytest.mark.slow, pytest.mark.plain]

STEPS = np.array([700, 31])
PARTS = ARCHITECTURES["latte-t2v"].parts
STRIDE = 1e-5  # of finite differences, whose error is about STRIDE^2
TOLERANCE = 2e-5  # relative to a gradient's norm: float32 arithmetic


@lru_cache
def step_of(part: str) -> tuple[LatteT2V, GradientStep]:
    """A model with the golden weights, and its step that trains a part of them, compiled once."""
    model = LatteT2V(SHAPE)
    load_weights(model, load_file(FOLDER / "diffusion_pytorch_model.safetensors"), source="golden")
    if part == "lora":
        add_lora(model, rank=2, alpha=2.0, seed=1)
        for parameter in model.get_parameters():
            if "lora_B" in parameter.name:
                parameter.set_data(parameter + 0.1 * parameter.shape[0] ** -0.5)
    train_only(model, PARTS[part])
    return model, GradientStep(model)


class Case:
    """A step's inputs, float32 gradients by name, and the float64 loss as a function of the weights."""

    def __init__(self, part: str, *, masked: bool):
        generator = np.random.default_rng(len(part) + masked)
        size = (2, SHAPE.num_frames, 4, SHAPE.sample_size, SHAPE.sample_size)
        x_start, eps = (
            generator.standard_normal(size, np.float32),
            generator.standard_normal(size, np.float32),
        )
        states = generator.standard_normal((2, 7, SHAPE.caption_channels), np.float32)
        mask = np.ones((2, 7)) if not masked else np.array([[1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0]])
        model, step = step_of(part)
        schedule = make_schedule(DiffusionSettings())
        columns = schedule.training_columns(STEPS)
        inputs = StepInputs(x_start, eps, STEPS.astype(np.int32), columns, pack_text(states, mask)[:, None])
        losses, gradients = step(inputs)
        self.loss = losses.loss
        self.gradients = {
            parameter.name: gradient.astype(np.float64)
            for parameter, gradient in zip(model.trainable_params(), gradients, strict=True)
        }
        self.weights = {p.name: p.asnumpy().astype(np.float64) for p in model.get_parameters()}
        bars = schedule.tables.alphas_cumprod[STEPS].reshape(-1, 1, 1, 1, 1)
        self.x_start, self.eps = x_start.astype(np.float64), eps.astype(np.float64)
        x_t = np.sqrt(bars) * self.x_start + np.sqrt(1 - bars) * self.eps
        self.arguments = (x_t, STEPS, states.astype(np.float64), mask)
        self.frozen_eps = self.output(self.weights)[:, :, :4]

    def output(self, weights: reference.Weights) -> NDArray[np.float64]:
        return reference.forward(weights, SHAPE, *self.arguments)

    def loss_at(self, weights: reference.Weights) -> float:
        return reference.loss(self.output(weights), self.frozen_eps, self.x_start, self.eps, STEPS)

    def difference(self, name: str, direction: NDArray[np.float64]) -> float:
        """The central difference of the loss along a direction of one parameter."""
        sides = [
            self.loss_at({**self.weights, name: self.weights[name] + side * direction})
            for side in (STRIDE, -STRIDE)
        ]
        return (sides[0] - sides[1]) / (2 * STRIDE)


@pytest.fixture(scope="module", params=[(part, masked) for part in PARTS for masked in (False, True)])
def case(request: pytest.FixtureRequest) -> Case:
    part, masked = request.param
    return Case(part, masked=masked)


def test_the_loss_matches_the_float64_model(case: Case) -> None:
    assert case.loss == pytest.approx(case.loss_at(case.weights), rel=1e-5)


def test_every_gradient_matches_finite_differences_of_the_loss(case: Case) -> None:
    """Compare along the gradient itself and along random directions; a wrong gradient fails in both."""
    generator = np.random.default_rng(0)
    for name, gradient in case.gradients.items():
        length = float(np.linalg.norm(gradient))
        directions = [generator.standard_normal(gradient.shape) for _ in range(2)]
        directions = [direction / np.linalg.norm(direction) for direction in directions]
        if length > 1e-6:
            directions.append(gradient / length)
        for direction in directions:
            slope = case.difference(name, direction)
            assert float((gradient * direction).sum()) == pytest.approx(
                slope, rel=0, abs=TOLERANCE * length + 2e-9
            ), name


def test_frozen_parameters_have_no_gradient(case: Case, request: pytest.FixtureRequest) -> None:
    part: Any = request.node.callspec.params["case"][0]
    expected = {"all": "", "temporal": "temporal_transformer_blocks.", "lora": ".lora_"}[part]
    assert set(case.gradients) == {name for name in case.weights if expected in name}
