"""Plans: what a command would do, and what is missing."""

from pathlib import Path

import pytest
from PIL import Image

from latte_cli.core.errors import LatteError
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.runs import cache_plan, sample_plan, train_plan
from latte_cli.core.settings.schema import (
    CacheSettings,
    DataSettings,
    DiffusionSettings,
    ModelSettings,
    SampleSettings,
    Settings,
    TextSettings,
    VaeSettings,
)
from latte_cli.core.settings.training import TrainSettings

GOLDEN = Path(__file__).parents[2] / "golden"
MODEL = ModelSettings(hidden_size=24, depth=2, num_heads=3, patch_size=2)
VAE = VaeSettings(weights="demo")


def write_video(folder: Path, frames: int) -> None:
    """A folder of tiny frames."""
    folder.mkdir(parents=True)
    for number in range(frames):
        Image.new("RGB", (8, 8)).save(folder / f"frame_{number}.png")


def row(plan: Plan, name: str) -> str:
    """A line of the plan."""
    return dict(plan.rows)[name]


def test_a_training_plan_shows_the_steps_per_epoch_of_all_workers(tmp_path: Path) -> None:
    for number in range(6):
        write_video(tmp_path / f"video{number}", 3)
    data = DataSettings(root=tmp_path, image_size=32, num_frames=2, frame_stride=1)
    train = TrainSettings(batch_size=1, accumulation=2, steps=9)
    plan = train_plan(Settings(data=data, model=MODEL, vae=VAE, train=train), workers=2)
    assert plan.problems == []
    assert row(plan, "data") == f"{tmp_path}: 6 videos"
    assert row(plan, "steps per epoch") == "1.5: 9 steps are 6 epochs"


def test_the_memory_of_training_on_a_cpu_includes_mindspore_itself() -> None:
    on_cpu, on_ascend = (
        row(train_plan(Settings(device=device, model=MODEL, vae=VAE)), "memory").split(" per worker: ")
        for device in ("cpu", "ascend")
    )
    assert on_cpu[1] == f"MindSpore 500 MB, {on_ascend[1]}"
    sizes = [float(on[0].split()[1]) for on in (on_cpu, on_ascend)]
    assert sizes[0] == pytest.approx(sizes[1] + 500, abs=1), (on_cpu, on_ascend)


def test_clips_longer_than_every_video_are_a_problem_of_the_plan(tmp_path: Path) -> None:
    write_video(tmp_path / "video", 3)
    data = DataSettings(root=tmp_path, image_size=32, num_frames=4, frame_stride=1)
    plan = train_plan(Settings(data=data, model=MODEL, vae=VAE))
    assert len(plan.problems) == 1
    assert plan.problems[0].startswith("data.num_frames: a clip is longer than every video")


def test_all_missing_paths_are_reported_together(tmp_path: Path) -> None:
    data = DataSettings(root=tmp_path / "videos", image_size=32, captions=tmp_path / "captions.csv")
    train = TrainSettings(init_from=tmp_path / "start.ckpt")
    vae = VaeSettings(weights=str(tmp_path / "vae.ckpt"))
    plan = train_plan(Settings(data=data, model=MODEL, vae=vae, train=train))
    assert plan.problems == [
        f"data.root: {tmp_path}/videos: no such folder",
        f"vae.weights: {tmp_path}/vae.ckpt: no such file or folder",
        f"data.captions: {tmp_path}/captions.csv: no such file or folder",
        f"train.init_from: {tmp_path}/start.ckpt: no such file or folder",
    ]
    with pytest.raises(LatteError, match=r"^4 problems\n  data\.root: "):
        plan.demand()


def test_the_plan_of_training_from_a_cache_requires_only_the_cache(tmp_path: Path) -> None:
    cache = CacheSettings(dir=tmp_path / "latents")
    plan = train_plan(Settings(model=MODEL, cache=cache))
    assert plan.problems == [f"cache.dir: {tmp_path}/latents: no such folder: run latte cache first"]


def test_a_class_conditional_model_requires_a_class_for_every_video(tmp_path: Path) -> None:
    write_video(tmp_path / "video", 3)
    data = DataSettings(root=tmp_path / "video", image_size=32, num_frames=2, frame_stride=1)
    model = MODEL.model_copy(update={"condition": "class", "num_classes": 2})
    plan = train_plan(Settings(data=data, model=model, vae=VAE))
    assert len(plan.problems) == 1
    assert "has no class" in plan.problems[0]


def test_a_sampling_plan_counts_respaced_steps_and_latents_need_no_autoencoder(
    tmp_path: Path,
) -> None:
    sample = SampleSettings(sampler="ddim", steps=250, respacing="ddim8", guidance_scale=4.0)
    settings = Settings(
        run_dir=tmp_path, model=MODEL, sample=sample, diffusion=DiffusionSettings(num_timesteps=800)
    )
    plan = sample_plan(settings, decodes=False)
    assert row(plan, "sampler") == "ddim, 8 steps, guidance 4"
    assert plan.problems == [f"{tmp_path}: no checkpoint found; train first or give --checkpoint"]
    assert (
        'vae.weights: not set, expected a file, a diffusers folder, or "demo"'
        in sample_plan(settings).problems
    )


def test_a_caching_plan_shows_the_cache_and_its_contents(tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "a", 40)
    data = DataSettings(root=tmp_path / "videos", image_size=32, num_frames=2)
    plan = cache_plan(Settings(data=data, vae=VAE, cache=CacheSettings(dir=tmp_path / "out")))
    assert (plan.problems, row(plan, "data")) == ([], f"{tmp_path}/videos: 1 video")
    assert row(plan, "writes") == f"{tmp_path}/out: moments of 32 px as numpy, float16"


def test_a_plan_counts_captions_and_names_a_file_without_captions(tmp_path: Path) -> None:
    for number in range(3):
        write_video(tmp_path / f"video{number}", 3)
    captions, encoder = tmp_path / "captions.csv", GOLDEN / "t2v" / "pipeline"
    data = DataSettings(root=tmp_path, image_size=64, num_frames=2, frame_stride=1, captions=captions)
    size = {"hidden_size": 24, "depth": 4, "num_heads": 3, "patch_size": 2}
    model = ModelSettings(architecture="latte-t2v", condition="text", **size)
    settings = Settings(data=data, model=model, vae=VAE, text=TextSettings(encoder=encoder))
    captions.write_text("video,caption\nvideo0,a cat\nvideo0,the cat\nvideo2,a cat\n")
    plan = train_plan(settings)
    assert (plan.problems, row(plan, "captions")) == ([], "2 of 2 videos, 1 without")
    assert row(plan, "text") == f"{encoder}/text_encoder: t5, 120 tokens of width 16"
    captions.write_text("video,caption\nvideo9,a cat\n")
    expected = f"found none in {captions} for a video of {tmp_path}, expected rows such as video0,a caption"
    assert train_plan(settings).problems == [f"data.captions: {expected}"]
