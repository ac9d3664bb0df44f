"""What a pipeline folder must hold, told without reading weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.models.pipeline.folder import find_text_encoder, open_pipeline

PIPELINE = Path(__file__).parents[3] / "golden" / "t2v" / "pipeline"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(PIPELINE, tmp_path / "pipeline"))


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(folder: Path | None) -> str:
    with pytest.raises(LatteError) as caught:
        open_pipeline(folder)
    return str(caught.value)


def test_a_whole_pipeline_is_opened() -> None:
    pipeline = open_pipeline(PIPELINE)
    assert (pipeline.shape.hidden_size, pipeline.shape.num_frames, pipeline.scaling_factor) == (
        24,
        2,
        0.18215,
    )
    assert (pipeline.text.kind, pipeline.text.width, pipeline.text.max_tokens) == ("t5", 16, 120)
    assert pipeline.scheduler["_class_name"] == "DDIMScheduler"


def test_without_a_pipeline_it_says_what_to_download_and_where_to_put_it(tmp_path: Path) -> None:
    wanted = (
        "to sample from a prompt, download maxin-cn/Latte-1 (huggingface-cli download maxin-cn/Latte-1"
        " --local-dir models/Latte-1) and give --pipeline models/Latte-1"
    )
    assert refusal(None) == f"no --pipeline was given; {wanted}"
    assert refusal(tmp_path / "none") == f"{tmp_path / 'none'}: no such folder; {wanted}"


def test_a_pipeline_of_another_kind_is_refused(folder: Path) -> None:
    rewrite(folder / "model_index.json", _class_name="StableDiffusionPipeline")
    assert refusal(folder) == (
        f"{folder / 'model_index.json'}: found a StableDiffusionPipeline, wanted a LattePipeline"
    )


def test_a_missing_tokenizer_file_is_named(folder: Path) -> None:
    (folder / "tokenizer" / "spiece.model").unlink()
    assert refusal(folder) == f"{folder}/tokenizer/spiece.model: no such file; the t5 tokenizer needs it"


@pytest.mark.parametrize("part", ["transformer", "vae", "scheduler", "tokenizer"])
def test_a_missing_part_is_named(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    assert refusal(folder) == f"{folder / part}: no such folder; the pipeline is not whole"


def test_an_autoencoder_of_another_factor_is_refused(folder: Path) -> None:
    rewrite(folder / "vae" / "config.json", block_out_channels=[4, 4, 4])
    assert refusal(folder) == f"{folder}/vae/config.json: found an autoencoder of 4 pixels a latent, wanted 8"


def test_an_autoencoder_of_other_channels_is_refused(folder: Path) -> None:
    rewrite(folder / "vae" / "config.json", latent_channels=16)
    assert (
        refusal(folder) == f"{folder}/vae/config.json: found 16 latent channels, wanted the transformer's 4"
    )


def test_a_text_encoder_of_another_width_is_refused(folder: Path) -> None:
    rewrite(folder / "text_encoder" / "config.json", d_model=32)
    assert (
        refusal(folder)
        == f"{folder}/text_encoder: found a t5 encoder of width 32, wanted a t5 encoder of width 16"
    )


def test_a_text_encoder_of_another_kind_is_refused(folder: Path) -> None:
    rewrite(folder / "text_encoder" / "config.json", model_type="bert")
    with pytest.raises(
        LatteError, match="found a bert model, wanted the folder of a T5 or CLIP text encoder"
    ):
        find_text_encoder(folder)


def test_a_torn_file_is_named(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text("[1]")
    assert refusal(folder) == f"{folder}/scheduler/scheduler_config.json: found a JSON list, wanted an object"


def test_looking_into_a_folder_imports_nothing_slow() -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from latte_cli.core.models.pipeline.folder import open_pipeline;"
        f"open_pipeline(Path({str(PIPELINE)!r})); sys.exit('mindspore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
