"""A run folder with everything that the page shows, created without MindSpore."""

import json
from pathlib import Path

import numpy as np
import pytest

from latte_cli.core.experiment.loading import dump_settings, load_settings
from latte_cli.core.sampling.media import write_mp4, write_png
from latte_cli.core.sampling.spec import RunSpec, write_spec
from latte_cli.core.settings.schema import Settings

HOSTILE = "<script>document.title='taken'</script>\"'><img src=x onerror=alert(1)> & {{ 7 * 7 }}"
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


@pytest.fixture
def run(tmp_path: Path) -> Settings:
    """A run of 60 steps in a folder with an unusual name, with previews, samples and an evaluation."""
    run_dir = tmp_path / "<b>run</b> \"one\" & 'two'"
    overrides = [("run_dir", str(run_dir)), ("train.steps", 60), ("train.preview_every", 20)]
    settings = load_settings(None, overrides)
    samples = run_dir / "samples"
    samples.mkdir(parents=True)
    (run_dir / "settings.yaml").write_text(dump_settings(settings))
    lines = [
        {"step": step, "loss": 1 / step, "mse": 0.9 / step, "vb": 0.1, "grad_norm": 2.0, "lr": 1e-3}
        | {"loss_scale": 1.0, "step_seconds": 0.1, "frames_per_second": 100.0}
        | ({"validation_loss": 1.5 / step} if step % 20 == 0 else {})
        for step in range(5, 65, 5)
    ]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in (20, 40):
        write_mp4(samples / f"step-{step:08d}-000-seed42.mp4", FRAMES, 8)
        write_png(samples / f"step-{step:08d}-000-seed42.png", FRAMES[0])
    for row in range(2):
        name = f"{row:03d}-seed{42 + row}"
        write_mp4(samples / f"{name}.mp4", FRAMES, 8)
        spec = RunSpec(
            name=name, seed=42 + row, row=row, prompt=HOSTILE, initial_latents=None, formats=("mp4",),
            sha256={"run/ckpt/step-60.safetensors": "ab" * 32}, class_label=None,
            checkpoint=run_dir / "ckpt" / "step-60.safetensors", settings=settings,
        )  # fmt: skip
        write_spec(samples, spec)
    figures = {"fvd": {"value": 123.456, "spread": 1.25, "draws": [122.0, 125.0]}}
    figures |= {"psnr": {"value": None, "spread": None, "draws": [None]}}
    content = {**figures, "remarks": ["few clips"], "protocol": {"clips": {"real": 4}, "seed": 1}}
    (run_dir / "evaluate.json").write_text(json.dumps(content))
    return settings
