"""Training on captions from the command line, by both models, from videos and from a cache."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

from latte_cli.cli import app as cli
from latte_cli.core.checkpoints.lora import load_lora
from tests.core.models.text.small_clip import save_clip

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[1] / "golden"
PIPELINE = GOLDEN / "t2v" / "pipeline"
DATA = {"image_size": 64, "captions": "captions.jsonl"}
TRAIN = {"batch_size": 2, "steps": 3, "checkpoint_every": 2, "learning_rate": 1e-2}
SECTIONS = {"data": DATA, "train": TRAIN, "sample": {"sampler": "ddim", "steps": 2, "num_samples": 1}}
LATTE = {"text": {"encoder": "clip"}, "model": {"patch_size": 4, "condition": "text"}}
LORA = {
    "text": {"encoder": str(PIPELINE)},
    "model": {"architecture": "latte-t2v", "condition": "text", "depth": 4},
}


def latte(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


def losses(run: str) -> list[float]:
    return [json.loads(line)["loss"] for line in Path(run, "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_experiment: Callable[..., str],
    noise_videos: Callable[..., None],
) -> Iterator[Path]:
    """A working directory with three videos, of which two have captions."""
    folder = tmp_path_factory.mktemp("captions")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        noise_videos(Path("videos"), "one", "two", "three", frames=3, size=(72, 64))
        rows = [{"video": "one", "caption": ["a cat", "the cat"]}, {"video": "two", "caption": "a sea"}]
        Path("captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        save_clip(Path("clip"), width=768, heads=2, layers=1)
        Path("latte.yaml").write_text(tiny_experiment(**SECTIONS, **LATTE))
        Path("t2v.yaml").write_text(tiny_experiment(**SECTIONS, **LORA))
        yield folder


@pytest.mark.usefixtures("folder")
def test_latte_trains_on_captions_and_equally_from_their_cache() -> None:
    result = latte("train")
    assert "left out: 1 video: three: has no caption" in result.stderr
    states = load_file("run/ckpt/step-00000003.safetensors")
    weight = "text_embedding_projection.1.weight"
    assert states[f"model/{weight}"].shape == (24, 77 * 768)
    assert np.abs(states[f"optimizer/mean/{weight}"]).max() > 0
    precise = ("--set", "cache.dtype=float32")
    latte("cache", "--out", "latents", *precise)
    shutil.move("clip", "away")  # training from a cache needs no encoder
    try:
        latte("train", "--cache", "latents", "--run-dir", "cached", "--set", "text.encoder=null", *precise)
    finally:
        shutil.move("away", "clip")
    np.testing.assert_allclose(losses("cached"), losses("run"), rtol=1e-6)


@pytest.mark.usefixtures("folder")
def test_sampling_a_lora_run_equals_the_pipeline_with_its_lora_file() -> None:
    lora = ("--set", "train.part=lora", "--set", f"train.init_from={PIPELINE}", "--set", "train.lora_rank=2")
    latte("train", "-c", "t2v.yaml", "--run-dir", "lora", *lora)
    changes = Path("lora/ckpt/lora-00000003.safetensors")
    assert max(np.abs(b).max() for _, b in load_lora(changes).factors.values()) > 0.01
    # With guidance, the pipeline truncates the negative prompt to the prompt's length, unlike training.
    said = ("--prompt", "a sea", "--format", "latents", "--guidance-scale", "1", "--seed", "4")
    latte("sample", "-c", "t2v.yaml", "--run-dir", "lora", *lora, *said)
    chain = ("--sampler", "ddim", "--steps", "2", "--num-samples", "1", "--device", "cpu")
    latte("sample", "--pipeline", PIPELINE, "--lora", changes, *said, *chain, "--out", "of_pipeline")
    latte("sample", "--pipeline", PIPELINE, *said, *chain, "--out", "unchanged")
    ours, theirs, before = (
        np.load(next(Path(where).glob("*.npy"))) for where in ("lora/samples", "of_pipeline", "unchanged")
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
    assert np.abs(theirs - before).max() > 1e-3 * np.abs(before).max()
