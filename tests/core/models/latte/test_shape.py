"""The shape of a transformer and its parameter count."""

import json
from math import prod
from pathlib import Path

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.models.latte.shape import LatteShape, resolve_model
from latte_cli.core.settings.schema import DataSettings, ModelSettings, Settings

KEYS = Path(__file__).parents[3] / "golden" / "keys"


def count(name: str) -> int:
    """The number of parameters in a recorded list of names and shapes."""
    return sum(prod(shape) for _, shape in json.loads((KEYS / name).read_text())["tensors"].values())


def test_xl2_has_the_number_of_parameters_of_the_original() -> None:
    shape = resolve_model(Settings(model=ModelSettings(preset="Latte-XL/2")))
    assert shape.parameters() == count("Latte-XL-2_uncond_256_f16.json")
    recorded = json.loads((KEYS / "Latte-XL-2_uncond_256_f16.json").read_text())
    assert shape.trained_parameters() == recorded["trainable_params"]


def test_class_conditional_xl2_has_the_number_of_parameters_of_the_original() -> None:
    model = ModelSettings(preset="Latte-XL/2", condition="class", num_classes=101)
    shape = resolve_model(Settings(model=model))
    assert shape.parameters() == count("Latte-XL-2_ucf101_class101_256_f16.json")


def test_position_tables_are_counted_but_not_trained() -> None:
    shape = LatteShape(hidden_size=24, depth=2, num_heads=2, patch_size=2, sample_size=8, num_frames=4)
    assert shape.parameters() - shape.trained_parameters() == (16 + 4) * 24


def test_a_number_overrides_that_of_the_preset() -> None:
    settings = Settings(model=ModelSettings(preset="Latte-S/2", depth=6), data=DataSettings(image_size=128))
    shape = resolve_model(settings)
    assert (shape.hidden_size, shape.depth, shape.num_heads, shape.patch_size) == (384, 6, 6, 2)
    assert shape.sample_size == 16


def test_with_fixed_variance_the_model_predicts_only_noise() -> None:
    learned = LatteShape(hidden_size=24, depth=2, num_heads=2, patch_size=2)
    fixed = LatteShape(hidden_size=24, depth=2, num_heads=2, patch_size=2, learn_sigma=False)
    assert (learned.out_channels, fixed.out_channels) == (8, 4)
    assert learned.parameters() - fixed.parameters() == 2 * 2 * 4 * (24 + 1)


def test_a_model_without_a_size_is_rejected() -> None:
    with pytest.raises(LatteError, match=r"found no preset and no model\.num_heads"):
        resolve_model(Settings(model=ModelSettings(hidden_size=24, depth=2, patch_size=2)))


def test_an_unknown_preset_is_rejected() -> None:
    with pytest.raises(LatteError, match=r'model\.preset: found "Latte-M/2", expected one of Latte-XL/2, '):
        resolve_model(Settings(model=ModelSettings(preset="Latte-M/2")))
