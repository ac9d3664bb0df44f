"""Latte conditioned on text, compared with a float64 model that matches the recorded models without text."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

from latte_cli.core.models.latte.shape import LatteShape
from latte_cli.core.models.latte.transformer import Latte
from latte_cli.core.models.weights import load_weights
from tests.core.models.latte import reference
from tests.core.models.latte.golden import arrays, shape_of, weights_of

pytestmark = pytest.mark.plain

SHAPES = [
    LatteShape(24, 2, 2, 2, sample_size=8, num_frames=3, condition="text"),
    LatteShape(32, 4, 4, 4, sample_size=16, num_frames=2, condition="text", learn_sigma=False),
]


@pytest.mark.parametrize("name", ["uncond", "class"])
def test_the_float64_model_matches_the_recorded_original(name: str) -> None:
    inputs, golden = arrays(name, "inputs.npz"), arrays(name, "golden_ema.npz")
    weights = {key: np.asarray(value, np.float64) for key, value in weights_of(name, "ema").items()}
    out = reference.forward(
        weights, shape_of(name), inputs["x"].astype(np.float64), inputs["t"], inputs.get("y")
    )
    np.testing.assert_allclose(out, golden["out"], rtol=0, atol=1e-4)


class Case:
    """A model with random weights, its inputs, and the float64 model's output."""

    def __init__(self, shape: LatteShape):
        generator = np.random.default_rng(shape.depth)
        self.model = Latte(shape)
        weights = {
            parameter.name: generator.normal(0, 0.1, parameter.shape).astype(np.float32)
            for parameter in self.model.get_parameters()
        }
        weights["text_embedding_projection.1.weight"] /= np.float32(10)  # of 59136 inputs
        load_weights(self.model, weights, source="random")
        size = (2, shape.num_frames, 4, shape.sample_size, shape.sample_size)
        self.x_t = generator.standard_normal(size, np.float32)
        self.timesteps = np.array([3, 640], np.int32)
        self.states = generator.standard_normal((2, 77, 768), np.float32)
        self.weights = {name: values.astype(np.float64) for name, values in weights.items()}
        self.shape = shape

    def ours(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        compiled = ms.jit(self.model.construct)
        return compiled(*map(Tensor, (self.x_t, self.timesteps, states[:, None]))).asnumpy()

    def expected(self, states: NDArray[np.float32]) -> NDArray[np.float64]:
        x_t, text = self.x_t.astype(np.float64), states.astype(np.float64)
        return reference.forward(self.weights, self.shape, x_t, self.timesteps, text)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_the_output_matches_the_float64_model(shape: LatteShape) -> None:
    case = Case(shape)
    expected = case.expected(case.states)
    np.testing.assert_allclose(case.ours(case.states), expected, rtol=0, atol=1e-4)
    assert np.abs(expected - case.expected(case.states[::-1])).max() > 0.1


def test_the_projection_has_the_name_and_size_of_the_original() -> None:
    model = Latte(SHAPES[0])
    found = {
        p.name: p.shape for p in model.get_parameters() if p.name.startswith("text_embedding_projection")
    }
    assert found == {
        "text_embedding_projection.1.weight": (24, 77 * 768),
        "text_embedding_projection.1.bias": (24,),
    }
