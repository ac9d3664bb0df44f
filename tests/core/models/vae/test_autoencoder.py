"""The autoencoder against diffusers' numbers, and the error messages."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from latte_cli.core.data.clips.encoding import draw_latents
from latte_cli.core.data.videos.transforms import to_uint8
from latte_cli.core.errors import LatteError
from latte_cli.core.models.vae.autoencoder import Vae, check_vae, load_vae
from latte_cli.core.settings.schema import VaeSettings

GOLDEN = Path(__file__).parents[3] / "golden" / "vae"
FOLDER = GOLDEN / "diffusers"
WEIGHTS = FOLDER / "diffusion_pytorch_model.safetensors"
NUMBERS = np.load(GOLDEN / "golden.npz")
TOLERANCE = 1e-4


def settings(weights: Path | str, **changes: object) -> VaeSettings:
    return VaeSettings.model_validate({"weights": str(weights), **changes})


@pytest.fixture(scope="module")
def vae() -> Vae:
    return load_vae(settings(FOLDER, chunk_frames=2))


@pytest.mark.plain
def test_moments_match_the_original(vae: Vae) -> None:
    moments = vae.encode(NUMBERS["x"])
    expected = np.concatenate([NUMBERS["mean"], NUMBERS["logvar"]], axis=1)
    np.testing.assert_allclose(moments, expected, rtol=0, atol=TOLERANCE)
    assert moments.dtype == np.float32


@pytest.mark.plain
def test_frames_match_the_original_and_the_scale_is_applied_once(vae: Vae) -> None:
    np.testing.assert_allclose(vae.decode(NUMBERS["z"]), NUMBERS["decoded_scaled"], rtol=0, atol=TOLERANCE)
    unscaled = vae.decode(NUMBERS["z"] * np.float32(0.18215))
    np.testing.assert_allclose(unscaled, NUMBERS["decoded"], rtol=0, atol=TOLERANCE)


@pytest.mark.plain
def test_pixels_match_the_original_up_to_rare_rounding(vae: Vae) -> None:
    pixels = to_uint8(vae.decode(NUMBERS["z"] * np.float32(0.18215)))
    difference = np.abs(pixels.astype(int) - NUMBERS["decoded_uint8_vchitect_NHWC"].astype(int))
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 1e-3


def test_sampled_latents_match_the_original_and_are_scaled_once() -> None:
    moments = np.concatenate([NUMBERS["mean"], NUMBERS["logvar"]], axis=1)
    latents = draw_latents(moments, NUMBERS["sample_eps"], 0.18215)
    np.testing.assert_allclose(latents, NUMBERS["latents_scaled"], rtol=0, atol=1e-6)
    clips = draw_latents(moments[None].astype(np.float16), NUMBERS["sample_eps"][None], 0.18215)
    assert clips.dtype == np.float32
    assert clips.shape == (1, *latents.shape)


@pytest.mark.plain
def test_half_precision_weights_match_the_original(tmp_path: Path) -> None:
    half = {name: value.astype(np.float16) for name, value in load_file(WEIGHTS).items()}
    save_file(half, tmp_path / "half.safetensors")
    shutil.copy(FOLDER / "config.json", tmp_path)
    vae = load_vae(settings(tmp_path / "half.safetensors"))
    mean = vae.encode(NUMBERS["x"])[:, :4]
    np.testing.assert_allclose(mean, NUMBERS["mean_fp16weights"], rtol=0, atol=TOLERANCE)
    decoded = vae.decode(NUMBERS["z"] * np.float32(0.18215))
    np.testing.assert_allclose(decoded, NUMBERS["decoded_fp16weights"], rtol=0, atol=TOLERANCE)


def test_chunks_are_returned_one_by_one_and_do_not_change_results(vae: Vae) -> None:
    frames = np.concatenate([NUMBERS["x"] * scale for scale in (1, 0.5, -0.5, 0.25, -1)]).astype(np.float32)
    chunks = list(vae.encode_chunks(frames))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    alone = np.concatenate([vae.encode(frame[None]) for frame in frames])
    np.testing.assert_allclose(np.concatenate(chunks), alone, rtol=0, atol=1e-5)
    latents = np.concatenate([NUMBERS["z"]] * 3)
    assert [len(chunk) for chunk in vae.decode_chunks(latents)] == [2, 1]


@pytest.mark.parametrize("rows", [2, 3, 8])
def test_a_frame_has_the_same_bits_at_every_position_of_a_chunk(rows: int) -> None:
    vae = load_vae(settings(FOLDER, chunk_frames=rows))
    frames = np.repeat(np.random.default_rng(0).uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32), rows, 0)
    moments = vae.encode(frames)
    decoded = vae.decode(np.ascontiguousarray(moments[:, :4]))
    for row in range(1, rows):
        np.testing.assert_array_equal(moments[row], moments[0])
        np.testing.assert_array_equal(decoded[row], decoded[0])


@pytest.mark.plain
def test_log_variance_is_clipped_to_the_bounds_of_the_original(vae: Vae) -> None:
    moments = vae.encode(np.full((1, 3, 16, 16), 1e6, np.float32))
    assert moments[:, 4:].min() >= -30
    assert moments[:, 4:].max() <= 20


def test_mindspore_checkpoints_can_be_loaded(tmp_path: Path, vae: Vae) -> None:
    import mindspore as ms

    entries = [{"name": name, "data": ms.Tensor(value)} for name, value in load_file(WEIGHTS).items()]
    ms.save_checkpoint(entries, str(tmp_path / "vae.ckpt"))
    shutil.copy(FOLDER / "config.json", tmp_path)
    check_vae(settings(tmp_path / "vae.ckpt"))
    loaded = load_vae(settings(tmp_path / "vae.ckpt"))
    np.testing.assert_array_equal(loaded.encode(NUMBERS["x"]), vae.encode(NUMBERS["x"]))


def test_inputs_of_an_invalid_shape_are_rejected(vae: Vae) -> None:
    with pytest.raises(
        LatteError, match=r"\(1, 3, 60, 64\), expected \(N, 3, H, W\), H and W multiples of 8"
    ):
        vae.encode(np.zeros((1, 3, 60, 64), np.float32))
    with pytest.raises(LatteError, match=r"shape \(1, 8, 8, 8\), expected \(N, 4, H, W\)"):
        vae.decode(np.zeros((1, 8, 8, 8), np.float32))


@pytest.mark.slow
def test_the_autoencoder_does_not_import_mindone() -> None:
    code = (
        "import sys; from latte_cli.core.models.vae.autoencoder import load_vae;"
        "from latte_cli.core.settings.schema import VaeSettings;"
        f"load_vae(VaeSettings(weights={str(FOLDER)!r}));"
        "sys.exit(any(name.startswith(('mindone', 'transformers')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
