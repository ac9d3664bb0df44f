from typing import Any

import numpy as np
import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.models.architectures import ARCHITECTURES
from latte_cli.core.models.latte.architecture import LABELS
from latte_cli.core.models.latte.shape import LatteShape
from latte_cli.core.models.latte.transformer import Latte, initialise
from latte_cli.core.training.starting import start_from

LATTE = ARCHITECTURES["latte"]
SIZES: dict[str, Any] = {"hidden_size": 24, "depth": 2, "num_heads": 2, "patch_size": 2, "sample_size": 8}


def model_of(**changes: Any) -> Latte:
    model = Latte(LatteShape(**(SIZES | {"num_frames": 4} | changes)))
    initialise(model, seed=1)
    return model


def values_of(model: Latte) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy().copy() for parameter in model.get_parameters()}


def random_weights(**changes: Any) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {parameter.name: parameter.shape for parameter in model_of(**changes).get_parameters()}
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_matching_weights_are_loaded_without_messages() -> None:
    model, weights = model_of(), random_weights()
    assert start_from(LATTE, model, weights, source="x") == []
    for name, values in values_of(model).items():
        np.testing.assert_array_equal(values, weights[name], err_msg=name)


def test_position_tables_of_another_size_are_computed_again() -> None:
    model, weights = model_of(num_frames=6, sample_size=12), random_weights()
    before = values_of(model)
    notes = start_from(LATTE, model, weights, source="x")
    assert notes == [
        "pos_embed: recomputed for another image size: 36 places, not 16",
        "temp_embed: recomputed for another number of frames: 6 places, not 4",
    ]
    for name, values in values_of(model).items():
        expected = before[name] if name in ("pos_embed", "temp_embed") else weights[name]
        np.testing.assert_array_equal(values, expected, err_msg=name)


def test_additional_classes_are_initialised_and_the_null_label_stays_last() -> None:
    classes: dict[str, Any] = {"condition": "class"}
    model, weights = model_of(**classes, num_classes=5), random_weights(**classes, num_classes=3)
    fresh = values_of(model)[LABELS]
    notes = start_from(LATTE, model, weights, source="x")
    assert notes == [f"{LABELS}: classes 3 to 4 newly initialised, 3 has the null label"]
    table = values_of(model)[LABELS]
    np.testing.assert_array_equal(table[[0, 1, 2, 5]], weights[LABELS])
    np.testing.assert_array_equal(table[3:5], fresh[3:5])

    fewer = model_of(**classes, num_classes=2)
    assert start_from(LATTE, fewer, weights, source="x") == [f"{LABELS}: classes 2 to 2 left out"]
    np.testing.assert_array_equal(values_of(fewer)[LABELS], weights[LABELS][[0, 1, 3]])


def test_classes_can_be_added_or_removed() -> None:
    gains, weights = model_of(condition="class", num_classes=3), random_weights()
    fresh = values_of(gains)[LABELS]
    notes = start_from(LATTE, gains, weights, source="x")
    assert notes == [f"{LABELS}: newly initialised, since the weights have no such condition"]
    np.testing.assert_array_equal(values_of(gains)[LABELS], fresh)
    loses, weights = model_of(), random_weights(condition="class", num_classes=3)
    notes = start_from(LATTE, loses, weights, source="x")
    assert notes == [f"{LABELS}: left out, since the model has no such condition"]


def test_any_other_difference_is_an_error() -> None:
    with pytest.raises(LatteError, match=r"^x: does not fit the model: x_embedder\.proj\.weight is "):
        start_from(LATTE, model_of(patch_size=4), random_weights(), source="x")
