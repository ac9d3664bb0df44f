"""Previews: the clips that sampling would make, without changing the run."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from latte_cli.core.data.captions.prompts import PromptLine
from latte_cli.core.models.vae.autoencoder import load_vae
from latte_cli.core.recipes import cache, sample, train
from latte_cli.core.sampling.from_run import load_trained
from latte_cli.core.sampling.spec import Request
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.previews import Previews
from latte_cli.core.training.report import TrainReport

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[2] / "golden"
VAE = GOLDEN / "vae" / "diffusers"
PIPELINE = GOLDEN / "t2v" / "pipeline"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of one video each."""
    root = tmp_path_factory.mktemp("videos")
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name / "video").mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 256, (32, 40, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / "video" / f"{number}.png")
    return root


def settings_of(run_dir: Path, root: Path, **train: Any) -> Settings:
    model = {"hidden_size": 24, "depth": 2, "num_heads": 3, "patch_size": 2}
    return Settings.model_validate(
        {
            "run_dir": run_dir,
            "data": {"root": root, "image_size": 32, "num_frames": 2, "frame_stride": 1},
            "vae": {"weights": str(VAE)},
            "model": {**model, "condition": "class", "num_classes": 2},
            "cache": {"in_memory": True},
            "train": {"batch_size": 2, "steps": 4, "log_every": 1, "learning_rate": 1e-2, **train},
            "sample": {"sampler": "ddpm", "steps": 3, "num_samples": 5, "class_labels": [1, 0]},
        }
    )


def untimed(run_dir: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k not in ("step_seconds", "frames_per_second")} for line in lines
    ]


def weights(run_dir: Path) -> dict[str, np.ndarray]:
    return load_file(max((run_dir / "ckpt").iterdir()))


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({}, marks=pytest.mark.plain),
        {"full_steps": 2, "guidance_scale": 3.0, "guidance_every": 2},
    ],
)
def test_previews_do_not_change_the_run_and_equal_sampled_clips(
    tmp_path: Path, videos: Path, how: dict[str, Any]
) -> None:
    with_them = settings_of(tmp_path / "with", videos, preview_every=2)
    with_them = with_them.model_copy(update={"sample": with_them.sample.model_copy(update=how)})
    list(train.run(with_them))
    list(train.run(settings_of(tmp_path / "without", videos)))
    assert untimed(tmp_path / "with") == untimed(tmp_path / "without")
    expected = weights(tmp_path / "without")
    for name, values in weights(tmp_path / "with").items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)

    samples = tmp_path / "with" / "samples"
    clips = ("000-seed42-class1", "001-seed43-class0", "002-seed44-class1")
    assert sorted(path.name for path in samples.iterdir()) == sorted(
        f"step-{step:08d}-{clip}{suffix}" for step in (2, 4) for clip in clips for suffix in (".mp4", ".png")
    )
    list(sample.run(with_them, Request(out=tmp_path / "drawn")))
    for clip in clips:
        for suffix in (".mp4", ".png"):
            drawn = (tmp_path / "drawn" / f"{clip}{suffix}").read_bytes()
            assert drawn == (samples / f"step-00000004-{clip}{suffix}").read_bytes()
            assert drawn != (samples / f"step-00000002-{clip}{suffix}").read_bytes()


def test_a_stopped_and_resumed_run_writes_the_same_previews(tmp_path: Path, videos: Path) -> None:
    whole = settings_of(tmp_path / "whole", videos, preview_every=2, checkpoint_every=1)
    list(train.run(whole))
    parts = settings_of(tmp_path / "parts", videos, preview_every=2, checkpoint_every=1)
    for report in train.run(parts):
        if isinstance(report, TrainReport) and report.step == 3:
            break
    list(train.run(parts, resume="auto"))
    assert untimed(tmp_path / "parts") == untimed(tmp_path / "whole")
    for path in (tmp_path / "whole" / "samples").iterdir():
        assert (tmp_path / "parts" / "samples" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "error", [MemoryError("no room"), RuntimeError("no room\nfor it"), OSError("no room")]
)
def test_a_failed_preview_gives_one_warning_and_ends_previews(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    previews = Previews(settings_of(tmp_path, tmp_path), {}, fail)
    monkeypatch.setattr(previews, "_denoiser_of_now", fail)
    with caplog.at_level(logging.WARNING):
        assert previews.draw(10) == []
        assert previews.draw(20) == []
    reason = f"{type(error).__name__}: no room"
    assert [record.message for record in caplog.records] == [
        f"no preview of step 10; previews are disabled: {reason}"
    ]
    assert not list(tmp_path.iterdir())


def test_training_from_the_cache_needs_no_autoencoder(
    tmp_path: Path, videos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = settings_of(tmp_path / "run", videos, preview_every=1, steps=2).model_dump()
    values["cache"] |= {"dir": tmp_path / "latents", "in_memory": False}
    list(cache.CacheRun(Settings.model_validate(values)))
    values["vae"]["weights"] = None
    settings = Settings.model_validate(values)
    reports = [report for report in train.run(settings) if isinstance(report, TrainReport)]
    assert [report.step for report in reports] == [1, 2]
    (warning,) = [record.message for record in caplog.records if "preview" in record.message]
    assert warning.startswith("no preview of step 1; previews are disabled: vae.weights: not set")


@pytest.mark.plain
def test_a_text_model_previews_its_prompts(tmp_path: Path) -> None:
    sizes = {"hidden_size": 24, "depth": 4, "num_heads": 3, "patch_size": 2}
    settings = Settings.model_validate(
        {
            "run_dir": tmp_path,
            "data": {"image_size": 64, "num_frames": 2},
            "vae": {"weights": str(PIPELINE / "vae")},
            "text": {"encoder": PIPELINE},
            "model": {"architecture": "latte-t2v", "condition": "text", **sizes},
            "sample": {"sampler": "ddim", "steps": 2, "num_samples": 2, "prompts": ["the sea", "A cat"]},
        }
    )
    (tmp_path / "ckpt").mkdir()
    checkpoint = tmp_path / "ckpt" / "step-00000002.safetensors"
    shutil.copy(PIPELINE / "transformer" / "diffusion_pytorch_model.safetensors", checkpoint)
    model = load_trained(settings, checkpoint)
    weights = {parameter.name: parameter for parameter in model.get_parameters()}
    files = Previews(settings, weights, lambda: load_vae(settings.vae)).draw(2)
    clips = ("000-seed42-the-sea", "001-seed43-the-sea", "002-seed42-a-cat")
    assert [path.name for path in files] == [
        f"step-00000002-{clip}{suffix}" for clip in clips for suffix in (".mp4", ".png")
    ]
    prompts = [PromptLine(text) for text in settings.sample.prompts]
    list(sample.run(settings, Request(prompts, checkpoint=checkpoint, out=tmp_path / "drawn")))
    for clip in clips:
        drawn = (tmp_path / "drawn" / f"{clip}.mp4").read_bytes()
        assert drawn == (tmp_path / "samples" / f"step-00000002-{clip}.mp4").read_bytes()


def test_a_text_model_without_prompts_has_no_previews(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings.model_validate({"run_dir": tmp_path, "model": {"condition": "text"}})
    assert Previews(settings, {}, lambda: load_vae(settings.vae)).draw(2) == []
    (warning,) = caplog.records
    assert warning.message.endswith("sample.prompts: not set, expected prompts for previews")
