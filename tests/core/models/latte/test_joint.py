"""Still images after the frames of a video, compared with a float64 model and the model without images."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from latte_cli.core.data.clips.batches import Batch
from latte_cli.core.models.latte.shape import LatteShape
from latte_cli.core.models.latte.transformer import Latte
from latte_cli.core.models.weights import load_weights
from latte_cli.core.settings.schema import ModelSettings
from latte_cli.core.training.inputs import labels_or_null
from tests.core.models.latte import reference

pytestmark = pytest.mark.plain

SHAPES = [
    LatteShape(24, 4, 2, 2, sample_size=8, num_frames=3, condition="class", num_classes=5),
    LatteShape(32, 2, 4, 4, sample_size=16, num_frames=2, learn_sigma=False),
]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_the_output_for_frames_and_images_matches_the_float64_model(shape: LatteShape) -> None:
    generator = np.random.default_rng(shape.depth)
    model = Latte(shape)
    weights = {
        parameter.name: generator.normal(0, 0.1, parameter.shape).astype(np.float32)
        for parameter in model.get_parameters()
    }
    load_weights(model, weights, source="random")
    exact = {name: values.astype(np.float64) for name, values in weights.items()}
    images, side = 2, shape.sample_size
    x_t = generator.standard_normal((2, shape.num_frames + images, 4, side, side), np.float32)
    timesteps = np.array([3, 640], np.int32)
    labels = np.array([[0, 4, 2], [5, 1, 5]], np.int32)
    condition = labels if shape.condition == "class" else np.zeros((2, 3), np.int32)
    compiled = ms.jit(model.construct)

    ours = compiled(*map(Tensor, (x_t, timesteps, condition))).asnumpy()
    expected = reference.forward(exact, shape, x_t.astype(np.float64), timesteps, condition)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)

    video = np.ascontiguousarray(x_t[:, : shape.num_frames])
    of_clips = np.ascontiguousarray(condition[:, :1])
    plain = compiled(*map(Tensor, (video, timesteps, of_clips))).asnumpy()
    np.testing.assert_allclose(ours[:, : shape.num_frames], plain, rtol=0, atol=1e-5)

    def predict_joint(x_t, timesteps, condition):  # type: ignore[no-untyped-def]
        embedder = model.t_embedder
        return model.predict_joint(x_t, embedder(embedder.sinusoids(timesteps)), model.prepare(condition))

    joint = ms.jit(predict_joint)(*map(Tensor, (video, timesteps, of_clips))).asnumpy()
    np.testing.assert_allclose(joint, plain, rtol=0, atol=1e-5)


def test_dropping_the_label_of_an_image_does_not_change_those_of_clips() -> None:
    model = ModelSettings(condition="class", num_classes=5, condition_dropout=0.5)
    places, clips = np.arange(64), np.arange(64) % 5
    nothing = np.zeros((64, 0), np.float32)
    numbers = {"places": places, "videos": places, "epochs": places, "class_labels": clips}
    plain = Batch(
        0, 0, content="latents", values=nothing, image_labels=np.zeros((64, 0), np.int64), **numbers
    )
    joint = Batch(0, 0, content="latents", values=nothing, image_labels=np.tile([1, 3], (64, 1)), **numbers)
    labels, joined = labels_or_null(plain, model, 7), labels_or_null(joint, model, 7)
    assert (labels.shape, joined.shape) == ((64, 1), (64, 3))
    np.testing.assert_array_equal(joined[:, :1], labels)
    for place, label in ((1, 1), (2, 3)):
        assert set(joined[:, place]) == {label, 5}
    assert len({tuple(row[1:]) for row in joined}) == 4
