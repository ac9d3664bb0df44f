"""Classifier-free guidance around a model that shows what it was asked."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.diffusion.guidance import guided

X_T = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 5)).astype(np.float32)
TIMESTEPS = np.array([7, 900])
LABELS, NULL = np.array([3, 1]), np.array([5, 5])


class Model:
    """eps = x_t * label, variance = label; remembers the rows of every call."""

    def __init__(self, variance: bool = True) -> None:
        self.variance = variance
        self.calls: list[tuple[list[int], list[int]]] = []

    def __call__(self, x_t: NDArray[Any], timesteps: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
        self.calls.append((timesteps.tolist(), labels.tolist()))
        factors = labels.reshape(-1, 1, 1, 1, 1).astype(np.float32)
        parts = [x_t * factors, np.broadcast_to(factors, x_t.shape)]
        return np.concatenate(parts[: 1 + self.variance], axis=2)


@pytest.mark.parametrize("variance", [True, False])
def test_guidance_leads_from_the_null_label_through_the_conditional_one(variance: bool) -> None:
    model = Model(variance)
    output = guided(model, LABELS, NULL, 4.0)(X_T, TIMESTEPS)
    factors = (NULL + 4.0 * (LABELS - NULL)).reshape(-1, 1, 1, 1, 1)
    np.testing.assert_allclose(output[:, :, :4], X_T * factors, rtol=1e-6)
    assert output.dtype == np.float32
    assert output.shape[2] == (8 if variance else 4)


def test_the_variance_is_the_conditional_one() -> None:
    output = guided(Model(), LABELS, NULL, 4.0)(X_T, TIMESTEPS)
    assert output[:, :, 4:].max(axis=(1, 2, 3, 4)).tolist() == [3, 1]


def test_one_forward_pass_sees_each_clip_with_its_label_and_without() -> None:
    model = Model()
    guided(model, LABELS, NULL, 4.0)(X_T, TIMESTEPS)
    assert model.calls == [([7, 900, 7, 900], [3, 1, 5, 5])]


def test_a_scale_of_one_never_asks_for_the_null_label() -> None:
    model = Model()
    output = guided(model, LABELS, NULL, 1.0)(X_T, TIMESTEPS)
    assert model.calls == [([7, 900], [3, 1])]
    np.testing.assert_array_equal(output, Model()(X_T, TIMESTEPS, LABELS))
