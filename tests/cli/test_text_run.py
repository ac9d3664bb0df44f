"""`latte sample --prompt` with a run that was trained on captions."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

from latte_cli.cli import app as cli
from tests.core.models.text.small_clip import save_clip

PIPELINE = Path(__file__).parents[1] / "golden" / "t2v" / "pipeline"
WEIGHTS = PIPELINE / "transformer" / "diffusion_pytorch_model.safetensors"
RUN: dict[str, dict[str, Any]] = {
    "data": {"image_size": 64},
    "vae": {"weights": str(PIPELINE / "vae")},
    "text": {"encoder": str(PIPELINE)},
    "model": {"architecture": "latte-t2v", "condition": "text", "depth": 4},
    "train": {"learning_rate": 0.01},
    "sample": {"sampler": "ddim", "steps": 3, "num_samples": 1, "seed": 5},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_experiment: Callable[..., str]) -> Path:
    """A working directory with a run whose checkpoint is the recorded pipeline's transformer."""
    monkeypatch.chdir(tmp_path)
    Path("run/ckpt").mkdir(parents=True)
    shutil.copy(WEIGHTS, "run/ckpt/step-00000002.safetensors")
    Path("run.yaml").write_text(tiny_experiment(**RUN))
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [*map(str, arguments)], catch_exceptions=False)


def latte(*arguments: str | Path) -> Result:
    return run("sample", *arguments)


@pytest.fixture
def train(tiny_experiment: Callable[..., str], noise_videos: Callable[..., None]) -> Callable[..., None]:
    """train(**sections): two steps of the experiment with these changes, on a video with a caption."""

    def make(**sections: Any) -> None:
        noise_videos(Path("videos"), "one", size=(64, 64))
        Path("videos/one.txt").write_text("the sea\n")
        changed = {name: {**RUN[name], **values} for name, values in sections.items()}
        Path("trained.yaml").write_text(tiny_experiment(**{**RUN, **changed, "run_dir": "trained"}))
        result = run("train", "-c", "trained.yaml")
        assert result.exit_code == 0, result.stderr

    return make


def latents(*arguments: str | Path) -> list[np.ndarray]:
    """The latents that a command wrote, in the order of the clips."""
    result = latte(*arguments, "--format", "latents", "--out", "out")
    assert result.exit_code == 0, result.stderr
    found = [np.load(line) for line in result.stdout.splitlines() if line.endswith(".npy")]
    shutil.rmtree("out")
    return found


@pytest.mark.slow
def test_a_run_with_the_weights_of_the_pipeline_samples_the_same_clips() -> None:
    same = ("--prompt", "Sunset over the sea", "--prompt", "", "--guidance-scale", "1")
    of_run = latents("-c", "run.yaml", *same)
    chain = ("--sampler", "ddim", "--steps", "3", "--seed", "5", "--device", "cpu")
    of_pipeline = latents("--pipeline", PIPELINE, *same, *chain)
    assert len(of_run) == 2
    np.testing.assert_allclose(of_run, of_pipeline, rtol=0, atol=1e-5 * np.abs(of_pipeline).max())
    assert np.abs(of_run[0] - of_run[1]).max() > 1e-3


@pytest.mark.slow
def test_a_folder_of_weights_can_replace_a_checkpoint() -> None:
    prompt = ("-c", "run.yaml", "--prompt", "the sea", "--steps", "1")
    (of_folder,) = latents(*prompt, "--checkpoint", PIPELINE / "transformer")
    (of_run,) = latents(*prompt)
    np.testing.assert_array_equal(of_folder, of_run)


@pytest.mark.slow
def test_guidance_uses_the_negative_prompt_which_is_empty_by_default() -> None:
    prompt = ("-c", "run.yaml", "--prompt", "the sea", "--guidance-scale", "4")
    (away_from_nothing,) = latents(*prompt)
    (from_empty,) = latents(*prompt, "--negative-prompt", "")
    (from_text,) = latents(*prompt, "--negative-prompt", "low quality")
    (from_itself,) = latents(*prompt, "--negative-prompt", "the sea")
    (unguided,) = latents("-c", "run.yaml", "--prompt", "the sea")
    np.testing.assert_array_equal(away_from_nothing, from_empty)
    assert np.abs(from_text - from_empty).max() > 1e-4
    np.testing.assert_allclose(from_itself, unguided, rtol=0, atol=1e-4 * np.abs(unguided).max())


@pytest.mark.slow
def test_clips_of_a_run_are_replayed_from_their_sidecars() -> None:
    Path("prompts.txt").write_text("the sea --seed 9 --steps 2 --guidance-scale 3\n")
    result = latte(
        "-c", "run.yaml", "--prompts-file", "prompts.txt", "--prompt", "A [cat]", "--format", "png"
    )
    assert result.exit_code == 0, result.stderr
    names = [Path(line).name for line in result.stdout.splitlines()]
    clips = ("000-seed5-a-cat", "001-seed9-the-sea")
    assert names == [*(f"{clip}.{end}" for clip in clips for end in ("png", "json")), "grid.png", "grid.mp4"]
    record = json.loads(Path("run/samples/001-seed9-the-sea.json").read_text())
    assert (record["prompt"], record["steps"], record["guidance_scale"]) == ("the sea", 2, 3)
    assert str(PIPELINE / "tokenizer" / "spiece.model") in record["sha256"]
    vae = (PIPELINE / "vae").iterdir()
    assert {str(file) for file in vae} <= record["sha256"].keys()
    again = latte("--replay", "run/samples/001-seed9-the-sea.json", "--out", "again")
    assert again.exit_code == 0, again.stderr
    for name in ("001-seed9-the-sea.png", "001-seed9-the-sea.json"):
        assert Path("again", name).read_bytes() == Path("run/samples", name).read_bytes()


@pytest.mark.slow
def test_a_lora_run_samples_with_its_base_weights_and_newest_adapters(
    train: Callable[..., None],
) -> None:
    base = Path(shutil.copytree(PIPELINE, "base"))
    train(train={"part": "lora", "lora_rank": 2, "init_from": "base"})
    prompt = ("--prompt", "the sea", "--guidance-scale", "1")
    (of_run,) = latents("-c", "trained/settings.yaml", *prompt)
    chain = ("--sampler", "ddim", "--steps", "3", "--seed", "5", "--device", "cpu")
    changes = "trained/ckpt/lora-00000002.safetensors"
    (of_pipeline,) = latents("--pipeline", "base", "--lora", changes, *prompt, *chain)
    np.testing.assert_allclose(of_run, of_pipeline, rtol=0, atol=1e-5 * np.abs(of_pipeline).max())
    (unchanged,) = latents("--pipeline", "base", *prompt, *chain)
    assert np.abs(of_run - unchanged).max() > 1e-3 * np.abs(unchanged).max()
    doubled = {name: 2 * values for name, values in load_file(WEIGHTS).items()}
    save_file(doubled, base / "transformer" / WEIGHTS.name)
    result = latte("-c", "trained/settings.yaml", *prompt)
    assert result.stderr == (
        "trained/ckpt/step-00000002.safetensors:"
        " train.init_from base contains other weights than in training\n"
    )
    changed = Path(changes).rename("elsewhere.safetensors")
    result = latte("-c", "trained/settings.yaml", *prompt)
    assert result.stderr == (
        f"{changes}: no such file, expected the LoRA weights of step-00000002.safetensors\n"
    )
    changed.rename(changes)
    shutil.rmtree(base)
    result = latte("-c", "trained/settings.yaml", *prompt)
    assert (result.exit_code, result.stderr) == (1, "train.init_from: base: no such file or folder\n")


@pytest.mark.slow
def test_a_latte_trained_on_captions_with_clip_samples_prompts(train: Callable[..., None]) -> None:
    save_clip(Path("clip"), width=768, heads=2, layers=1)
    train(text={"encoder": "clip"}, model={"architecture": "latte"})
    same = ("-c", "trained/settings.yaml", "--guidance-scale", "4")
    sea, cat = latents(*same, "--prompt", "sea", "--prompt", "cat")
    (alone,) = latents(*same, "--prompt", "cat")
    np.testing.assert_array_equal(cat, alone)
    assert np.abs(sea - cat).max() > 1e-4


def test_the_plan_shows_prompts_and_encoder() -> None:
    result = latte("-c", "run.yaml", "--prompt", "[b]x", "--dry-run", "--num-samples", "2")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "clips            2 of 2 frames, latents 8 x 8, seed 5\n                 [b]x\n" in result.stdout
    assert f"text             {PIPELINE}/text_encoder: t5, 120 tokens of width 16\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "--prompt: not given, expected a description of the clip; or --prompts-file FILE"),
        (
            ["--prompt", "x", "--set", "text.encoder=none"],
            "text.encoder: none: no such folder",
        ),
        (
            ["--prompt", "x", "--run-dir", "other"],
            "other: no checkpoint found; train first or give --checkpoint",
        ),
        (
            ["--prompt", "x", "--prompt", "y", "--initial-latents", "noise.npy"],
            "--initial-latents: found noise of 3, expected as many for each of 2 prompts",
        ),
        (
            ["--prompts-file", "prompts.txt"],
            "--prompts-file: --steps: found 1001, expected at most diffusion.num_timesteps 1000",
        ),
    ],
)
def test_a_clip_that_a_run_cannot_sample_gives_a_one_line_error(arguments: list[str], error: str) -> None:
    np.save("noise.npy", np.zeros((3, 2, 4, 8, 8), np.float32))
    Path("prompts.txt").write_text("the sea --steps 3\nthe sky --steps 1001\n")
    result = latte("-c", "run.yaml", *arguments)
    assert (result.exit_code, result.stderr, result.stdout) == (1, f"{error}\n", "")
