"""The text-to-video transformer, compared with diffusers and the original (tests/golden/t2v)."""

import json
from math import prod
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

from latte_cli.core.errors import LatteError
from latte_cli.core.models.latte_t2v.shape import TextToVideoShape, read_shape
from latte_cli.core.models.latte_t2v.transformer import LatteT2V, initialise, pack_text, place_table
from latte_cli.core.models.weights import load_weights
from tests.core.models.latte_t2v.golden import CONFIG, GOLDEN, SHAPE, golden, weights

pytestmark = pytest.mark.plain

KEYS = json.loads((GOLDEN / "keys" / "LatteTransformer3DModel_Latte-1.json").read_text())


def run(
    mask: NDArray[np.float32] | None = None, frames: int | None = None, **kinds: Any
) -> NDArray[np.float32]:
    """The golden's inputs through a compiled model, as (B, C, F, h, w)."""
    recorded = golden()
    model = LatteT2V(SHAPE, num_frames=frames, **kinds)
    load_weights(model, weights(), source="golden")
    states = recorded["encoder_hidden_states"]
    mask = np.ones(states.shape[:2], np.float32) if mask is None else mask
    latents = recorded["hidden_states"].swapaxes(1, 2)[:, :frames]

    def forward(x_t, timesteps, condition):  # type: ignore[no-untyped-def]
        return model(x_t, timesteps, condition)

    timesteps = recorded["timestep"].astype(np.int32)
    inputs = (np.ascontiguousarray(latents), timesteps, pack_text(states, mask)[:, None])
    return ms.jit(forward)(*map(Tensor, inputs)).asnumpy().swapaxes(1, 2)


@pytest.mark.slow
def test_the_output_matches_diffusers() -> None:
    np.testing.assert_allclose(run(), golden()["out"], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_masked_text_has_no_effect() -> None:
    recorded = golden()
    out = run(recorded["encoder_attention_mask"])
    np.testing.assert_allclose(out, recorded["out_masked"], rtol=0, atol=1e-4)
    assert np.abs(recorded["out_masked"] - recorded["out_unmasked"]).max() > 1e-3


@pytest.mark.slow
def test_without_temporal_blocks_each_frame_is_computed_separately() -> None:
    np.testing.assert_allclose(run(temporal=False), golden()["out_no_temporal"], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_single_frame_gets_no_temporal_position() -> None:
    np.testing.assert_allclose(run(frames=1), golden()["out_single_frame"], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("stored", "digits"), [("float16", 11), ("bfloat16", 8)])
def test_half_precision_weights_are_accurate_up_to_their_rounding(stored: str, digits: int) -> None:
    expected = golden()["out"]
    assert np.abs(run(stored=stored) - expected).max() < 2.0**-digits * np.abs(expected).max()


@pytest.mark.slow
def test_products_in_half_precision_are_close() -> None:
    expected = golden()["out"]
    assert np.abs(run(dtype="float16") - expected).max() < 2.0**-10 * np.abs(expected).max()


def test_the_output_depends_on_the_position_of_a_token() -> None:
    grid = (SHAPE.sample_size // SHAPE.patch_size,) * 2
    np.testing.assert_allclose(place_table(SHAPE, grid), golden()["pos_embed"][0], rtol=0, atol=1e-7)


def test_positions_of_another_size_are_interpolated_over_the_trained_range() -> None:
    narrow = place_table(SHAPE, (4, 4)).reshape(4, 4, -1)
    wide = place_table(SHAPE, (2, 8)).reshape(2, 8, -1)
    np.testing.assert_allclose(wide[:, ::2], narrow[::2], rtol=0, atol=1e-12)


def shape_of(config: dict[str, Any], folder: Path) -> TextToVideoShape:
    """The shape read from a config.json in a folder."""
    path = folder / "c.json"
    path.write_text(json.dumps(config))
    return read_shape(path)


def test_latte_1_has_the_recorded_number_and_names_of_parameters(tmp_path: Path) -> None:
    shape = shape_of(KEYS["config"], tmp_path)
    assert shape.parameters() == KEYS["num_params"]
    names = {parameter.name: parameter.shape for parameter in LatteT2V(SHAPE).get_parameters()}
    assert sum(prod(sizes) for sizes in names.values()) == SHAPE.parameters()
    for name in names:
        assert name in KEYS["tensors"]
    pairs = {name for name in KEYS["tensors"] if not any(f".{place}." in name for place in range(2, 28))}
    assert {name for name in pairs if "blocks" not in name} <= set(names)


def test_a_written_config_is_read_back_equal(tmp_path: Path) -> None:
    assert shape_of(SHAPE.to_config(), tmp_path) == SHAPE
    assert {name: CONFIG[name] for name in SHAPE.to_config()} == SHAPE.to_config()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"_class_name": "UNet2DConditionModel"},
            '_class_name: found "UNet2DConditionModel", expected one of'
            " 'LatteTransformer3DModel' or 'LatteT2V'",
        ),
        ({"norm_type": "layer_norm"}, "norm_type: found \"layer_norm\", expected 'ada_norm_single'"),
        ({"norm_eps": 1e-5}, "norm_eps: found 1e-05, expected 1e-06"),
        ({"num_layers": None}, "num_layers: found null, expected an integer"),
        ({"num_layers": 10**9}, "num_layers: found 1000000000, expected at most 65536"),
        ({"cross_attention_dim": 5}, "cross_attention_dim: found 5, expected 24"),
    ],
)
def test_a_config_of_another_model_is_rejected(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(LatteError) as refusal:
        shape_of(CONFIG | change, tmp_path)
    assert str(refusal.value) == f"{tmp_path / 'c.json'}: {message}"


@pytest.mark.slow
def test_still_images_use_their_own_text_and_skip_temporal_blocks() -> None:
    shape = TextToVideoShape(
        hidden_size=24, depth=2, num_heads=2, patch_size=2, caption_channels=6, sample_size=4, num_frames=3
    )
    joint, clip, image = LatteT2V(shape), LatteT2V(shape), LatteT2V(shape, num_frames=1, temporal=False)
    initialise(joint, 1)
    generator = np.random.default_rng(0)
    randomised = {
        p.name: generator.normal(0, 0.2, p.shape).astype(np.float32) for p in joint.get_parameters()
    }
    for model in (joint, clip, image):
        load_weights(model, randomised, source="test")
    x_t = generator.standard_normal((2, 5, 4, 4, 4), np.float32)
    states = generator.standard_normal((2, 3, 7, 6), np.float32)
    packed = pack_text(states, generator.integers(0, 2, (2, 3, 7)))
    timesteps = np.array([7, 993], np.int32)
    out = joint(*map(Tensor, (x_t, timesteps, packed))).asnumpy()
    alone = clip(*map(Tensor, (x_t[:, :3], timesteps, packed[:, :1]))).asnumpy()
    np.testing.assert_allclose(out[:, :3], alone, rtol=0, atol=1e-5)
    for place in (1, 2):
        alone = image(*map(Tensor, (x_t[:, 2 + place][:, None], timesteps, packed[:, [place]]))).asnumpy()
        np.testing.assert_allclose(out[:, 2 + place][:, None], alone, rtol=0, atol=1e-5)
