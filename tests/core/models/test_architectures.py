"""The transformer of an experiment: its sizes, frozen parameters and initial weights."""

from typing import Any, get_args

import numpy as np
import pytest
from mindspore import Tensor

from latte_cli.core.checkpoints.layouts.matching import TIMESTEP_CHANNELS
from latte_cli.core.data.captions.states import MAX_TOKENS, model_input
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architectures import ARCHITECTURES, build_model, sizes_of
from latte_cli.core.models.conditions.encoder import text_folder
from latte_cli.core.models.latte_t2v.sizes import text_to_video_shape
from latte_cli.core.models.positions import timestep_rows
from latte_cli.core.models.text.encoder import TextStates, condition_of
from latte_cli.core.models.text.folder import find_text_encoder
from latte_cli.core.models.weights import load_weights
from latte_cli.core.settings.schema import ModelSettings, Settings
from latte_cli.core.settings.training import TrainSettings
from tests.core.models.latte_t2v.golden import CONFIG, PIPELINE, SIZE


def settings(model: dict[str, Any] | None = None, **train: Any) -> Settings:
    t2v = {"architecture": "latte-t2v", "condition": "text", **SIZE}
    data = {"image_size": 64, "num_frames": 3}
    text = {"encoder": str(PIPELINE)}
    return Settings.model_validate({"model": t2v | (model or {}), "data": data, "text": text, "train": train})


@pytest.mark.parametrize("part", ["all", "temporal", "lora"])
def test_the_parameter_count_of_a_plan_matches_the_model(part: str) -> None:
    expected = settings(part=part, lora_rank=3, init_from=str(PIPELINE))
    model, sizes = build_model(expected), sizes_of(expected)
    assert sizes.parameters() == sum(parameter.size for parameter in model.get_parameters())
    assert sizes.trained_parameters() == sum(parameter.size for parameter in model.trainable_params())


def test_every_architecture_in_the_settings_is_in_the_table() -> None:
    assert tuple(ARCHITECTURES) == get_args(ModelSettings.model_fields["architecture"].annotation)
    parts = get_args(TrainSettings.model_fields["part"].annotation)
    assert set().union(*(architecture.parts for architecture in ARCHITECTURES.values())) == set(parts)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_calling_a_transformer_is_prepare_then_predict(architecture: str) -> None:
    expected = settings({"architecture": architecture})
    model = build_model(expected)
    generator = np.random.default_rng(0)
    values = {p.name: generator.normal(0, 0.1, p.shape).astype(np.float32) for p in model.get_parameters()}
    load_weights(model, values, source="random")
    row = ARCHITECTURES[architecture]
    tokens, width = MAX_TOKENS[row.text_kind], row.text_width(expected)
    states = model_input(generator.standard_normal((tokens, width), np.float32) / 10, row.text_kind)[
        None, None
    ]
    x_t, timesteps = generator.standard_normal((1, *model.clip_shape), np.float32), np.array([37], np.int32)
    assert model.clip_shape == (3, 4, 8, 8)
    whole = model(*map(Tensor, (x_t, timesteps, states))).asnumpy()
    sinusoids = timestep_rows(TIMESTEP_CHANNELS, timesteps)
    parts = model.predict(Tensor(x_t), Tensor(sinusoids), model.prepare(Tensor(states))).asnumpy()
    np.testing.assert_array_equal(parts, whole)
    assert np.abs(whole).max() > 0


def test_the_initial_weights_depend_only_on_the_seed() -> None:
    one, other = build_model(settings()), build_model(settings())
    for first, second in zip(one.get_parameters(), other.get_parameters(), strict=True):
        np.testing.assert_array_equal(first.asnumpy(), second.asnumpy(), err_msg=first.name)
    assert np.abs(one.pos_embed.proj.weight.asnumpy()).max() > 0


def test_the_shape_comes_from_the_initial_weights_and_the_frames_from_the_settings() -> None:
    shape = text_to_video_shape(settings(init_from=str(PIPELINE)))
    assert (shape.sample_size, shape.num_frames) == (CONFIG["sample_size"], 3)
    assert text_to_video_shape(settings()).sample_size == 64 // 8
    assert shape.caption_channels == CONFIG["caption_channels"]


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        ({"depth": 8}, f"model.depth: found 8, expected {SIZE['depth']}"),
        (
            {"learn_sigma": False},
            f"model.learn_sigma: out_channels: found 4, expected {CONFIG['out_channels']}",
        ),
        (
            {**dict.fromkeys(SIZE), "preset": "Latte-1"},
            f"model.hidden_size: found 1152, expected {SIZE['hidden_size']};"
            f" model.depth: found 56, expected {SIZE['depth']};"
            f" model.num_heads: found 16, expected {SIZE['num_heads']}",
        ),
    ],
)
def test_weights_of_another_size_are_rejected(model: dict[str, Any], fault: str) -> None:
    with pytest.raises(LatteError) as refusal:
        build_model(settings(model, init_from=str(PIPELINE)))
    assert str(refusal.value) == f"{fault}, as in train.init_from {PIPELINE}"


def test_the_preset_is_latte_1() -> None:
    preset = dict.fromkeys(SIZE) | {"preset": "Latte-1"}
    expected = settings(preset).model_copy(
        update={"text": settings().text.model_copy(update={"encoder": None})}
    )
    assert sizes_of(expected).parameters() == 1_057_246_880  # counted by diffusers 0.35


def test_the_default_encoder_is_that_of_the_initial_pipeline() -> None:
    expected = settings(init_from=str(PIPELINE))
    without = expected.model_copy(update={"text": expected.text.model_copy(update={"encoder": None})})
    assert text_folder(without) == text_folder(expected) == find_text_encoder(PIPELINE)


def test_an_encoder_of_another_kind_is_rejected() -> None:
    with pytest.raises(LatteError) as refusal:
        text_folder(settings({"architecture": "latte"}))
    width = CONFIG["caption_channels"]
    assert str(refusal.value) == (
        f"text.encoder: {PIPELINE}: found a t5 encoder of width {width}, expected a clip of width 768, for"
        " model.architecture: latte"
    )


def test_conditions_are_states_of_clip_or_states_and_mask_of_t5() -> None:
    folder = find_text_encoder(PIPELINE)
    text = TextStates(np.ones((120, folder.width), np.float32), 2)
    states_and_mask = condition_of(text, folder)
    np.testing.assert_array_equal(states_and_mask[:, -1], [1, 1] + [0] * 118)
    assert states_and_mask.shape == (120, folder.width + 1)
