"""Specs of clips: writing sidecars, and reading those of strangers."""

import json
from pathlib import Path
from typing import Any

import pytest

from latte_cli.core.checkpoints.lora import LoraUse
from latte_cli.core.errors import LatteError
from latte_cli.core.sampling.spec import PipelineSpec, RunSpec, check_files, read_spec, write_spec
from latte_cli.core.sampling.write import digests
from latte_cli.core.settings.schema import DataSettings, ModelSettings, SampleSettings, Settings

COMMON = {
    "latte": "0.1",
    "name": "a",
    "seed": 5,
    "row": 1,
    "initial_latents": None,
    "sha256": {},
    "formats": ["mp4"],
    "files": ["a.mp4"],
}
SETTINGS = Settings(
    data=DataSettings(image_size=32),
    model=ModelSettings(hidden_size=24, depth=2, num_heads=3, patch_size=2, condition="class", num_classes=3),
    sample=SampleSettings(steps=2),
)
RUN: dict[str, Any] = {
    **COMMON,
    "class_label": 2,
    "checkpoint": "run/ckpt/step-1.safetensors",
    "settings": SETTINGS.model_dump(mode="json"),
}
PIPELINE: dict[str, Any] = {
    **COMMON,
    "prompt": "a cat",
    "negative_prompt": "",
    "steps": 2,
    "guidance_scale": 7.5,
    "pipeline": "Latte-1",
    "scheduler": "DDIMScheduler",
    "sampler": None,
    "eta": 0.0,
    "num_frames": 16,
    "height": 512,
    "width": 512,
    "dtype": "float32",
    "clean_caption": True,
    "lora": [],
    "chunk_frames": 8,
    "temporal_decoder": True,
    "fps": 8,
    "device": "cpu",
}


def sidecar(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / f"{content['name']}.json"
    path.write_text(json.dumps(content))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(LatteError) as caught:
        read_spec(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_sidecar_older_than_the_temporal_decoder_does_not_use_it(tmp_path: Path) -> None:
    before = {key: value for key, value in PIPELINE.items() if key != "temporal_decoder"}
    spec = read_spec(sidecar(tmp_path, before))
    assert isinstance(spec, PipelineSpec)
    assert spec.temporal_decoder is False


def test_a_sidecar_older_than_strengths_uses_strength_1(tmp_path: Path) -> None:
    assert read_spec(sidecar(tmp_path, PIPELINE | {"lora": "a.safetensors"})).lora == (
        LoraUse(path=Path("a.safetensors"), strength=1.0),
    )
    assert read_spec(sidecar(tmp_path, PIPELINE | {"lora": None})).lora == ()


def test_the_prompts_of_a_sidecar_older_than_cleaning_are_not_cleaned(tmp_path: Path) -> None:
    pipeline = read_spec(sidecar(tmp_path, {k: v for k, v in PIPELINE.items() if k != "clean_caption"}))
    assert isinstance(pipeline, PipelineSpec)
    assert pipeline.clean_caption is False
    text = {key: value for key, value in RUN["settings"]["text"].items() if key != "clean_caption"}
    for settings in (RUN["settings"] | {"text": text}, {**RUN["settings"], "text": {}}):
        run = read_spec(sidecar(tmp_path, RUN | {"settings": settings}))
        assert isinstance(run, RunSpec)
        assert run.settings.text.clean_caption is False


@pytest.mark.parametrize("content", [RUN, PIPELINE], ids=["run", "pipeline"])
def test_a_written_spec_is_read_back_equal(content: dict[str, Any], tmp_path: Path) -> None:
    spec = read_spec(sidecar(tmp_path, content | {"later": [1]}))
    path = write_spec(tmp_path, spec)
    written = json.loads(path.read_text())
    assert {key: written[key] for key in content} == content
    assert list(written)[:2] == ["latte", "name"]
    assert read_spec(path) == spec


def test_the_values_of_a_clip_override_its_settings(tmp_path: Path) -> None:
    spec = read_spec(sidecar(tmp_path, RUN | {"steps": 7, "guidance_scale": 3.5}))
    assert isinstance(spec, RunSpec)
    sample = spec.sample_settings()
    assert (sample.steps, sample.respacing, sample.guidance_scale, sample.seed) == (7, None, 3.5, 5)
    assert sample.class_labels == (2,)


@pytest.mark.parametrize("record", [RUN, PIPELINE], ids=["run", "pipeline"])
@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ({"name": "../../x"}, 'name: found "../../x", expected a path inside the folder'),
        ({"name": "/tmp/x"}, 'name: found "/tmp/x", expected a path inside the folder'),
        ({"name": "sub/x"}, 'name: found "sub/x", expected a file name without a folder'),
        ({"files": ["../x.mp4"]}, 'files.0: found "../x.mp4", expected a path inside the folder'),
        ({"seed": -5}, "seed: found -5, expected at least 0"),
        ({"row": "x"}, 'row: found "x", expected an integer'),
        ({"row": 10**12}, "row: found 1000000000000, expected less than 1000000"),
        ({"formats": []}, "formats: found a list, expected at least 1 values"),
        (
            {"formats": ["exe"]},
            "formats.0: found \"exe\", expected one of 'mp4', 'gif', 'png', 'latents' or 'frames'",
        ),
        ({"sha256": {"x": "0"}}, 'sha256.x: found "0", expected text of the form ^[0-9a-f]{64}$'),
    ],
)
def test_a_wrong_value_gives_a_one_line_error(
    damage: dict[str, Any], fault: str, record: dict[str, Any], tmp_path: Path
) -> None:
    path = sidecar(tmp_path, record)
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    assert refusal(path) == fault


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ({"num_frames": 10**9}, "num_frames: found 1000000000, expected at most 65536"),
        ({"height": 0}, "height: found 0, expected at least 1"),
        ({"fps": 10**9}, "fps: found 1000000000, expected at most 1000"),
        ({"guidance_scale": "7"}, 'guidance_scale: found "7", expected a number'),
        ({"sampler": "euler"}, "sampler: found \"euler\", expected one of 'ddpm', 'ddim' or 'dpm++'"),
    ],
)
def test_a_wrong_value_of_a_clip_of_a_pipeline_gives_a_one_line_error(
    damage: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    assert refusal(sidecar(tmp_path, PIPELINE | damage)) == fault


@pytest.mark.parametrize(
    ("section", "damage", "fault"),
    [
        ("data", {"num_frames": "x"}, 'settings.data.num_frames: found "x", expected an integer'),
        ("model", {"dpth": 2}, "settings.model.dpth: unknown key"),
        ("model", {"depth": 3}, "settings.model.depth: found 3, expected an even number"),
        ("model", {"num_classes": 2}, "settings.sample.class_labels: found 2, expected labels from 0 to 1"),
        (
            "sample",
            {"steps": 1001},
            "settings.sample.steps: found 1001, expected at most diffusion.num_times",
        ),
    ],
)
def test_a_wrong_setting_of_a_clip_of_a_run_gives_a_one_line_error(
    section: str, damage: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    settings = RUN["settings"] | {section: RUN["settings"][section] | damage}
    assert refusal(sidecar(tmp_path, RUN | {"settings": settings})).startswith(fault)


def test_the_steps_of_a_clip_are_checked_against_its_schedule(tmp_path: Path) -> None:
    fault = refusal(sidecar(tmp_path, RUN | {"steps": 2000}))
    assert fault == "settings.sample.steps: found 2000, expected at most diffusion.num_timesteps 1000"


def test_a_spec_whose_files_have_changed_is_rejected(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_text("first")
    path = sidecar(tmp_path, PIPELINE | {"sha256": digests([weights, None])})
    spec = read_spec(path)
    assert spec.sha256.keys() == {str(weights)}
    check_files(spec, path)
    weights.write_text("second")
    with pytest.raises(LatteError) as refusal:
        check_files(spec, path)
    assert str(refusal.value) == f"{path}: {weights} is not the file that the clip was made from"


@pytest.mark.parametrize("content", ["[]", "{}", "[" * 100_000, "x"], ids=["list", "none", "deep", "text"])
def test_a_file_that_is_not_a_spec_is_rejected(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    assert "\n" not in refusal(path)
