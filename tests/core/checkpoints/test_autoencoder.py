"""The autoencoder that vae.weights names: every published layout, and the error messages."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from latte_cli.core.checkpoints.autoencoder import AutoencoderShape, find_autoencoder, open_autoencoder
from latte_cli.core.checkpoints.save import save_weights
from latte_cli.core.errors import LatteError
from tests.core.checkpoints.reference import GOLDEN

VAE = GOLDEN / "vae"
FOLDER = VAE / "diffusers"
WEIGHTS = FOLDER / "diffusion_pytorch_model.safetensors"
CONFIG = json.loads((FOLDER / "config.json").read_text())


def beside_its_config(file: Path, folder: Path) -> Path:
    """A copy of a golden file next to a configuration with its number of groups."""
    shutil.copy(FOLDER / "config.json", folder)
    return Path(shutil.copy(file, folder))


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_pytorch_model.bin",
        "old_attn_diffusion_pytorch_model.bin",
        "old_attn_diffusion_pytorch_model.safetensors",
        "ldm_bare.safetensors",
        "ldm_vae_state_dict.ckpt",
    ],
)
def test_every_published_layout_gives_the_same_autoencoder(name: str, tmp_path: Path) -> None:
    opened = open_autoencoder(str(beside_its_config(VAE / name, tmp_path)))
    expected = load_file(WEIGHTS)
    assert opened.shapes == {name: value.shape for name, value in expected.items()}
    for tensor, value in expected.items():
        np.testing.assert_array_equal(opened.read(tensor), value)


def test_the_configuration_of_stable_diffusion_is_recognised_by_shapes(tmp_path: Path) -> None:
    listed = json.loads((GOLDEN / "keys" / "sd-vae-ft-mse.json").read_text())["diffusers"]
    zero = np.zeros((), np.float16)
    save_file(
        {name: np.array(np.broadcast_to(zero, shape)) for name, (_, shape) in listed.items()},
        tmp_path / "sd-vae-ft-mse.safetensors",
    )
    shape = open_autoencoder(str(tmp_path / "sd-vae-ft-mse.safetensors")).shape
    assert shape == AutoencoderShape((128, 256, 512, 512), layers_per_block=2)
    assert (shape.norm_num_groups, shape.latent_channels) == (32, 4)


def test_an_autoencoder_without_attention_or_quant_convolutions_is_recognised(tmp_path: Path) -> None:
    kept = {
        name: value
        for name, value in load_file(WEIGHTS).items()
        if "attentions" not in name and "quant_conv" not in name
    }
    save_file(kept, tmp_path / "vae.safetensors")
    without = {"use_quant_conv": False, "use_post_quant_conv": False, "mid_block_add_attention": False}
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | without))
    shape = open_autoencoder(str(tmp_path / "vae.safetensors")).shape
    assert not shape.use_quant_conv
    assert not shape.mid_block_add_attention


def test_weights_are_found_in_folders_of_mindspore_and_pipelines(tmp_path: Path) -> None:
    save_weights(tmp_path / "vae" / "model.ckpt", load_file(WEIGHTS))
    shutil.copy(FOLDER / "config.json", tmp_path / "vae")
    assert find_autoencoder(str(tmp_path / "vae")).weights == tmp_path / "vae" / "model.ckpt"
    (tmp_path / "model_index.json").write_text("{}")
    found = find_autoencoder(str(tmp_path))
    assert (found.weights, found.config) == (
        tmp_path / "vae" / "model.ckpt",
        tmp_path / "vae" / "config.json",
    )


def test_the_files_of_a_sharded_autoencoder_are_its_index_and_shards(tmp_path: Path) -> None:
    weights = load_file(WEIGHTS)
    shards = {"a.safetensors": "encoder.", "b.safetensors": ("decoder.", "quant_conv.", "post_quant_conv.")}
    for file, starts in shards.items():
        save_file(
            {name: value for name, value in weights.items() if name.startswith(starts)}, tmp_path / file
        )
    table = {name: "a.safetensors" if name.startswith("encoder.") else "b.safetensors" for name in weights}
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": table}))
    shutil.copy(FOLDER / "config.json", tmp_path)
    assert sorted(find_autoencoder(str(tmp_path)).every_weight) == [
        tmp_path / "a.safetensors",
        tmp_path / "b.safetensors",
        index,
    ]
    assert open_autoencoder(str(tmp_path)).shapes.keys() == weights.keys()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (None, 'vae.weights: not set; expected a file, a diffusers folder, or "demo"'),
        ("none/such", 'vae.weights: no file or folder none/such; expected an autoencoder, or "demo"'),
        (GOLDEN / "latte", f"{GOLDEN}/latte: a folder without weights"),
        (FOLDER / "config.json", "config.json: is JSON, not weights"),
        (GOLDEN / "bad" / "good.pt", "is a Latte checkpoint, expected a Stable Diffusion autoencoder"),
        (
            VAE / "diffusion_pytorch_model.bin",
            "norms of 32; expected a config.json next to it",
        ),
    ],
)
def test_the_error_for_an_invalid_autoencoder_names_the_file_and_the_expected_value(
    weights: Path | None, message: str
) -> None:
    with pytest.raises(LatteError) as caught:
        open_autoencoder(None if weights is None else str(weights))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def changed(tmp_path: Path, **changes: object) -> str:
    shutil.copytree(FOLDER, tmp_path / "vae")
    (tmp_path / "vae" / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    return str(tmp_path / "vae")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_out_channels": [4, 8, 8]}, r"config.json: block_out_channels is \(4, 8, 8\), the weights "),
        ({"latent_channels": 16}, "config.json: latent_channels is 16, the weights .* have 4"),
        ({"norm_num_groups": 7}, "config.json: channels .*, norms of 7; expected a config.json"),
        ({"act_fn": "gelu"}, "config.json: act_fn: found \"gelu\", expected 'silu'"),
        ({"_class_name": "VQModel"}, "norms of 32; expected a config.json next to it"),
    ],
)
def test_a_configuration_of_other_weights_is_rejected(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(LatteError, match=message):
        open_autoencoder(changed(tmp_path, **changes))


def test_an_autoencoder_with_another_factor_is_rejected(tmp_path: Path) -> None:
    left_out = ("encoder.down_blocks.3.", "encoder.down_blocks.2.downsamplers.", "decoder.up_blocks.2.")
    kept = {
        name.replace("up_blocks.3.", "up_blocks.2."): value
        for name, value in load_file(WEIGHTS).items()
        if not name.startswith(left_out)
    }
    save_file(kept, tmp_path / "vae.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"block_out_channels": [4, 8, 8]}))
    with pytest.raises(LatteError, match="found a downsampling factor of 4, expected 8"):
        open_autoencoder(str(tmp_path / "vae.safetensors"))


def test_a_truncated_file_is_rejected(tmp_path: Path) -> None:
    folder = changed(tmp_path)
    (Path(folder) / WEIGHTS.name).write_bytes(WEIGHTS.read_bytes()[:5000])
    with pytest.raises(LatteError, match="is truncated or damaged"):
        open_autoencoder(folder)


def test_a_missing_and_a_misshapen_tensor_are_named(tmp_path: Path) -> None:
    weights, folder = load_file(WEIGHTS), changed(tmp_path)
    rest = {name: value for name, value in weights.items() if name != "quant_conv.bias"}
    save_file(rest, Path(folder) / WEIGHTS.name)
    with pytest.raises(LatteError, match=r"missing quant_conv\.bias"):
        open_autoencoder(folder)
    save_file({**weights, "quant_conv.bias": np.zeros(9, np.float32)}, Path(folder) / WEIGHTS.name)
    with pytest.raises(LatteError, match=r"quant_conv\.bias of shape \(9,\), expected \(8,\)"):
        open_autoencoder(folder)


def test_opening_does_not_import_mindspore() -> None:
    code = (
        "import sys; from latte_cli.core.checkpoints.autoencoder import open_autoencoder;"
        f"open_autoencoder({str(FOLDER)!r}); sys.exit('mindspore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
