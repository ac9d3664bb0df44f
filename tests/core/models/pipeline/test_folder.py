"""What a pipeline folder must contain, checked without reading weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.models.pipeline.folder import open_pipeline
from latte_cli.core.models.text.folder import find_text_encoder

PIPELINE = Path(__file__).parents[3] / "golden" / "t2v" / "pipeline"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that tests can damage."""
    return Path(shutil.copytree(PIPELINE, tmp_path / "pipeline"))


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(folder: Path | None) -> str:
    with pytest.raises(LatteError) as caught:
        open_pipeline(folder)
    return str(caught.value)


def test_a_complete_pipeline_is_opened() -> None:
    pipeline = open_pipeline(PIPELINE)
    assert (pipeline.shape.hidden_size, pipeline.shape.num_frames, pipeline.scaling_factor) == (
        24,
        2,
        0.18215,
    )
    assert (pipeline.text.kind, pipeline.text.width, pipeline.text.max_tokens) == ("t5", 16, 120)
    assert pipeline.scheduler["_class_name"] == "DDIMScheduler"


def test_the_error_without_a_pipeline_names_the_published_one(tmp_path: Path) -> None:
    expected = "to sample from a prompt, give --pipeline hf://maxin-cn/Latte-1"
    assert refusal(None) == f"no --pipeline was given; {expected}"
    assert refusal(tmp_path / "none") == f"{tmp_path / 'none'}: no such folder; {expected}"


def test_a_pipeline_of_another_kind_is_rejected(folder: Path) -> None:
    rewrite(folder / "model_index.json", _class_name="StableDiffusionPipeline")
    assert refusal(folder) == (
        f'{folder / "model_index.json"}: found "StableDiffusionPipeline", expected LattePipeline'
    )


def test_the_error_names_a_missing_tokenizer_file(folder: Path) -> None:
    (folder / "tokenizer" / "spiece.model").unlink()
    assert refusal(folder) == f"{folder}/tokenizer/spiece.model: no such file; required by the t5 tokenizer"


@pytest.mark.parametrize("part", ["transformer", "vae", "scheduler", "tokenizer"])
def test_the_error_names_a_missing_part(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    assert refusal(folder) == f"{folder / part}: no such folder; the pipeline is incomplete"


def test_an_autoencoder_with_another_factor_is_rejected(folder: Path) -> None:
    rewrite(folder / "vae" / "config.json", block_out_channels=[4, 4, 4])
    assert refusal(folder) == f"{folder}/vae/config.json: found a downsampling factor of 4, expected 8"


def test_an_autoencoder_with_other_channels_is_rejected(folder: Path) -> None:
    rewrite(folder / "vae" / "config.json", latent_channels=16)
    assert (
        refusal(folder) == f"{folder}/vae/config.json: found 16 latent channels, expected the transformer's 4"
    )


def test_a_text_encoder_of_another_width_is_rejected(folder: Path) -> None:
    rewrite(folder / "text_encoder" / "config.json", d_model=32)
    assert (
        refusal(folder)
        == f"{folder}/text_encoder: found a t5 encoder of width 32, expected a t5 encoder of width 16"
    )


def test_a_text_encoder_of_another_kind_is_rejected(folder: Path) -> None:
    rewrite(folder / "text_encoder" / "config.json", model_type="bert")
    with pytest.raises(LatteError) as caught:
        find_text_encoder(folder)
    fault = "model_type: found \"bert\", expected one of 't5', 'clip' or 'clip_text_model'"
    assert str(caught.value) == f"{folder}/text_encoder/config.json: {fault}"


@pytest.mark.parametrize(
    ("file", "damage", "fault"),
    [
        (
            "transformer/config.json",
            {"num_layers": 10**9},
            "num_layers: found 1000000000, expected at most 65536",
        ),
        ("transformer/config.json", {"sample_size": "8"}, 'sample_size: found "8", expected an integer'),
        ("text_encoder/config.json", {"d_model": -1}, "d_model: found -1, expected at least 1"),
        (
            "vae/config.json",
            {"block_out_channels": []},
            "block_out_channels: found a list, expected at least 1 values",
        ),
        ("vae/config.json", {"scaling_factor": 0}, "scaling_factor: found 0, expected more than 0"),
        (
            "scheduler/scheduler_config.json",
            {"num_train_timesteps": 10**12},
            "num_train_timesteps: found 1000000000000, expected at most 100000",
        ),
        ("scheduler/scheduler_config.json", {"beta_end": "x"}, 'beta_end: found "x", expected a number'),
        (
            "scheduler/scheduler_config.json",
            {"trained_betas": [2]},
            "trained_betas.0: found 2, expected at most 1",
        ),
    ],
)
def test_the_error_names_a_wrong_value_in_a_small_file(
    file: str, damage: dict[str, object], fault: str, folder: Path
) -> None:
    rewrite(folder / file, **damage)
    assert refusal(folder) == f"{folder / file}: {fault}"


@pytest.mark.parametrize("content", ["[" * 100_000, "", '{"_class_name": '])
@pytest.mark.parametrize(
    "file", ["model_index.json", "transformer/config.json", "scheduler/scheduler_config.json"]
)
def test_invalid_json_is_reported(content: str, file: str, folder: Path) -> None:
    (folder / file).write_text(content)
    assert refusal(folder).startswith(f"{folder / file}: cannot be read as JSON: ")


def test_the_error_names_a_truncated_file(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text("[1]")
    assert (
        refusal(folder) == f"{folder}/scheduler/scheduler_config.json: found a list, expected keys and values"
    )


def test_opening_a_folder_imports_no_slow_packages() -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from latte_cli.core.models.pipeline.folder import open_pipeline;"
        f"open_pipeline(Path({str(PIPELINE)!r})); sys.exit('mindspore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
