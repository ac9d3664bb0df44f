"""A full-size Stable Diffusion autoencoder, compared with diffusers (tests/golden/sizes)."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from latte_cli.core.models.vae.autoencoder import Vae, load_vae
from latte_cli.core.settings.schema import VaeSettings
from tests.peers import golden_cases as cases

GOLDEN = Path(__file__).parents[3] / "golden"
RECORDED = dict(np.load(GOLDEN / "sizes" / "vae.npz"))
SHAPES = json.loads((GOLDEN / "keys" / "sd-vae-ft-mse.json").read_text())["diffusers"]
TOLERANCE = 1e-4 / 3  # relative to the maximum: the absolute 1e-4 of the small autoencoder's test

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vae]:
    folder = tmp_path_factory.mktemp("vae")
    (folder / "config.json").write_text(json.dumps(cases.SD_AUTOENCODER))
    values = {name: cases.weights(name, tuple(shape)) for name, (_, shape) in SHAPES.items()}
    save_file(values, folder / "diffusion_pytorch_model.safetensors")
    del values
    yield load_vae(VaeSettings(weights=str(folder), scaling_factor=1.0))
    (folder / "diffusion_pytorch_model.safetensors").unlink()


@pytest.mark.parametrize("size", cases.IMAGE_SIZES)
def test_moments_match_diffusers(vae: Vae, size: int) -> None:
    frames = cases.normal(size, (1, 3, size, size)).clip(-1, 1)
    assert cases.error(vae.encode(frames), RECORDED, f"encode-{size}") <= TOLERANCE


@pytest.mark.parametrize("size", cases.IMAGE_SIZES)
def test_frames_match_diffusers(vae: Vae, size: int) -> None:
    latents = cases.normal(size + 1, (1, 4, size // 8, size // 8))
    assert cases.error(vae.decode(latents), RECORDED, f"decode-{size}") <= TOLERANCE
