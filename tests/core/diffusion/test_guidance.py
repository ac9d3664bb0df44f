"""Classifier-free guidance of a model that records its calls."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.diffusion.guidance import guided
from latte_cli.core.diffusion.samplers import Model

X_T = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 5)).astype(np.float32)
TIMESTEPS = np.array([7, 900])
LABELS, NULL = np.array([3, 1]), np.array([5, 5])


class Reader:
    """eps = x_t * label, variance = label; records the labels it embedded and the timesteps of every call."""

    def __init__(self, variance: bool = True) -> None:
        self.variance = variance
        self.readings: list[list[int]] = []
        self.calls: list[list[int]] = []

    def __call__(self, labels: NDArray[Any]) -> Model:
        self.readings.append(labels.tolist())
        factors = labels.reshape(-1, 1, 1, 1, 1).astype(np.float32)

        def model(x_t: NDArray[Any], timesteps: NDArray[Any]) -> NDArray[Any]:
            self.calls.append(timesteps.tolist())
            parts = [x_t * factors, np.broadcast_to(factors, x_t.shape)]
            return np.concatenate(parts[: 1 + self.variance], axis=2)

        return model


@pytest.mark.parametrize("variance", [True, False])
def test_guidance_extrapolates_from_the_null_to_the_conditional_prediction(variance: bool) -> None:
    model = Reader(variance)
    output = guided(model, LABELS, NULL, 4.0)(X_T, TIMESTEPS)
    factors = (NULL + 4.0 * (LABELS - NULL)).reshape(-1, 1, 1, 1, 1)
    np.testing.assert_allclose(output[:, :, :4], X_T * factors, rtol=1e-6)
    assert output.dtype == np.float32
    assert output.shape[2] == (8 if variance else 4)


def test_the_variance_is_the_conditional_one() -> None:
    output = guided(Reader(), LABELS, NULL, 4.0)(X_T, TIMESTEPS)
    np.testing.assert_array_equal(
        output[:, :, 4:], np.broadcast_to(LABELS.reshape(-1, 1, 1, 1, 1), X_T.shape)
    )


def test_one_forward_pass_has_each_clip_with_and_without_its_label() -> None:
    reader = Reader()
    guided(reader, LABELS, NULL, 4.0)(X_T, TIMESTEPS)
    assert (reader.readings, reader.calls) == ([[3, 1, 5, 5]], [[7, 900, 7, 900]])


def test_with_a_scale_of_one_the_null_label_is_not_used() -> None:
    reader = Reader()
    output = guided(reader, LABELS, NULL, 1.0)(X_T, TIMESTEPS)
    assert (reader.readings, reader.calls) == ([[3, 1]], [[7, 900]])
    np.testing.assert_array_equal(output, Reader()(LABELS)(X_T, TIMESTEPS))


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_labels_are_embedded_once_for_all_steps(guidance_scale: float) -> None:
    reader = Reader()
    model = guided(reader, LABELS, NULL, guidance_scale)
    for _ in range(3):
        model(X_T, TIMESTEPS)
    assert (len(reader.readings), len(reader.calls)) == (1, 3)


class Counted(Reader):
    """A model whose evaluations with reuse return zeros and the labels, unlike full evaluations."""

    def __call__(self, labels: NDArray[Any]) -> Any:
        model = super().__call__(labels)

        class Model:
            def __call__(self, x_t: NDArray[Any], timesteps: NDArray[Any]) -> NDArray[Any]:
                return model(x_t, timesteps)

            keep = __call__

            def reuse(self, x_t: NDArray[Any], timesteps: NDArray[Any]) -> NDArray[Any]:
                return model(0 * x_t, timesteps)

        return Model()


def test_evaluations_of_one_branch_add_the_last_guidance_difference() -> None:
    reader = Counted()
    model = guided(reader, LABELS, NULL, 4.0, every=3)
    labels, null = LABELS.reshape(-1, 1, 1, 1, 1), NULL.reshape(-1, 1, 1, 1, 1)
    for index, growth in enumerate((1, 2, 3, 4, 5)):
        output = model(growth * X_T, TIMESTEPS)
        last = growth if index % 3 == 0 else (1, 4)[index // 3]
        expected = growth * labels * X_T + 3 * last * (labels - null) * X_T
        np.testing.assert_allclose(output[:, :, :4], expected, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(output[:, :, 4:], np.broadcast_to(labels, X_T.shape))
    assert [len(call) for call in reader.calls] == [4, 2, 2, 4, 2]
    assert reader.readings == [[3, 1, 5, 5], [3, 1]]


def test_evaluations_with_reuse_compute_the_branches_of_the_last_full_one() -> None:
    reader = Counted()
    model = guided(reader, LABELS, NULL, 4.0, every=2)
    for way in (model.keep, model.reuse, model.keep, model.reuse, model.reuse, model.keep):
        way(X_T, TIMESTEPS)
    assert [len(call) for call in reader.calls] == [4, 4, 2, 2, 2, 4]
