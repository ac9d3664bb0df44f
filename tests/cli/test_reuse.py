"""Sampling with fewer full steps, and `latte calibrate`, on a tiny run: results and errors."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from latte_cli.cli import app as cli
from latte_cli.cli import progress
from latte_cli.core.errors import LatteError
from latte_cli.core.sampling.from_run import RunGenerator

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = """
run_dir: run
device: cpu
data: {root: videos, image_size: 32, num_frames: 2, frame_stride: 1}
vae: {weights: demo}
model: {hidden_size: 24, depth: 2, num_heads: 3, patch_size: 2, condition: class, num_classes: 2}
train: {batch_size: 1, steps: 3, learning_rate: 0.1, ema_decay: 0, dtype: float32, checkpoint_every: 2}
sample: {sampler: ddpm, steps: 8, num_samples: 1, seed: 5, guidance_scale: 3}
"""
NAME = "000-seed5-class0"
runner = CliRunner()


def latte(line: str) -> Result:
    """Run a command; errors other than LatteError are raised."""
    return runner.invoke(cli.app, line.split(), catch_exceptions=False)


@pytest.fixture(scope="module", autouse=True)
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A working directory with a trained run of two classes, calibrated for 4 and 3 full steps of 8."""
    folder, before = tmp_path_factory.mktemp("experiment"), Path.cwd()
    random = np.random.default_rng(0)
    for name in ("one", "two"):
        (folder / "videos" / name / "clip").mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 256, (32, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "videos" / name / "clip" / f"{number}.png")
    os.chdir(folder)
    Path("latte.yaml").write_text(TINY)
    for line in ("train", "calibrate --samples 2 --budgets 4,3"):
        result = latte(line)
        assert result.exit_code == 0, result.stderr
    yield
    os.chdir(before)


def sampled(flags: str, out: str) -> tuple[NDArray[Any], dict[str, Any]]:
    """The latents of a clip and its sidecar."""
    result = latte(f"sample --format latents --out {out} {flags}")
    assert result.exit_code == 0, result.stderr
    return np.load(f"{out}/{NAME}.npy"), json.loads(Path(out, f"{NAME}.json").read_text())


def schedules() -> dict[int, list[int]]:
    """The steps that reuse.json chooses, by their number."""
    content = json.loads(Path("run/reuse.json").read_text())
    return {len(one["full_steps"]): one["full_steps"] for one in content["schedules"]}


def test_a_calibration_records_the_setup_it_applies_to() -> None:
    content = json.loads(Path("run/reuse.json").read_text())
    assert list(schedules()) == [3, 4]
    setup = {"sampler": "ddpm", "steps": 8, "respacing": None, "eta": 0.0}
    assert content["setup"] == setup | {"num_frames": 2, "height": 32, "width": 32}
    assert (content["samples"], content["seed"], content["guidance_scale"]) == (2, 5, 3.0)
    assert all(steps[0] == 0 and steps == sorted(set(steps)) for steps in schedules().values())


def test_the_error_of_a_calibration_is_reproducible_and_at_most_that_of_even_spacing() -> None:
    errors = {}
    for name, flags in {"found": "--full-steps 3", "evenly": "--full-steps 3 --reuse even"}.items():
        for out, more in ((name, flags), ("full", "")):
            result = latte(f"sample --format latents --num-samples 2 --out {out} {more}")
            assert result.exit_code == 0, result.stderr
        files = [f"{clip}.npy" for clip in (NAME, "001-seed6-class1")]
        errors[name] = np.mean([np.abs(np.load(f"{name}/{one}") - np.load(f"full/{one}")) for one in files])
    content = json.loads(Path("run/reuse.json").read_text())
    assert content["schedules"][0]["error"] == pytest.approx(errors["found"], rel=1e-4)
    assert errors["found"] <= errors["evenly"] * 1.0001


def test_the_computed_steps_are_those_of_the_calibration() -> None:
    _, sidecar = sampled("--full-steps 4", "calibrated")
    assert sidecar["full_steps"] == schedules()[4]
    _, sidecar = sampled("--full-steps 4 --reuse even", "even")
    assert sidecar["full_steps"] == [0, 2, 4, 6]
    plan = latte("sample --full-steps 4 --dry-run").stdout
    places = " ".join(map(str, schedules()[4]))
    assert f"\nfull steps       4 of 8, from run/reuse.json: {places}\n" in plan
    assert " for 8 with " in next(line for line in plan.splitlines() if line.startswith("time"))


def test_a_clip_with_reuse_is_replayed_without_the_calibration() -> None:
    latents, _ = sampled("--full-steps 4 --guidance-every 2", "first")
    Path("run/reuse.json").rename("elsewhere.json")
    try:
        result = latte(f"sample --replay first/{NAME}.json --out again")
        assert result.exit_code == 0, result.stderr
    finally:
        Path("elsewhere.json").rename("run/reuse.json")
    assert Path(f"again/{NAME}.npy").read_bytes() == Path(f"first/{NAME}.npy").read_bytes()
    full, _ = sampled("", "full")
    assert np.abs(latents - full).max() > 0


def test_with_all_steps_full_the_bytes_are_those_without_the_flag() -> None:
    sampled("", "plain")
    _, sidecar = sampled("--full-steps 8 --guidance-every 1", "all")
    assert sidecar["full_steps"] is None
    assert Path(f"all/{NAME}.npy").read_bytes() == Path(f"plain/{NAME}.npy").read_bytes()


def test_workers_sample_the_same_clips_as_one_process() -> None:
    for out, flags in (("one", ""), ("two", "--parallel 2")):
        line = f"-m latte_cli sample --format latents --full-steps 3 --num-samples 2 --out {out} {flags}"
        done = subprocess.run([sys.executable, *line.split()], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    for name in (NAME, "001-seed6-class1"):
        assert Path(f"one/{name}.npy").read_bytes() == Path(f"two/{name}.npy").read_bytes()


AGAIN = "run latte calibrate again, or give --reuse even"


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--full-steps 9", "sample.full_steps: found 9, expected at most sample.steps 8"),
        ("--full-steps 0", "sample.full_steps: found 0, expected an integer, at least 1, or null"),
        ("--full-steps 4 --sampler ddim", f'run/reuse.json: sampler: found "ddpm", expected "ddim"; {AGAIN}'),
        ("--full-steps 4 --steps 9", f"run/reuse.json: steps: found 8, expected 9; {AGAIN}"),
        ("--full-steps 5", f"run/reuse.json: found schedules of 3, 4 full steps, expected 5; {AGAIN}"),
        ("--full-steps 4 --reuse no.json", "no.json: no such file"),
        ("--full-steps 4 --reuse latte.yaml", "latte.yaml: cannot be read as JSON"),
        (
            "--full-steps 4 --checkpoint run/ckpt/step-00000002.safetensors",
            f"run/reuse.json: found a calibration of other weights, expected one of these; {AGAIN}",
        ),
    ],
)
def test_a_calibration_of_other_settings_gives_a_one_line_error(flags: str, error: str) -> None:
    result = latte(f"sample --format latents --out refused {flags}")
    assert result.exit_code == 1
    assert result.stderr.startswith(error)
    assert result.stderr.count("\n") == 1
    assert not Path("refused").exists()


@pytest.mark.parametrize(
    ("flags", "code", "error"),
    [
        ("--budgets 8", 1, "--budgets: found 8, expected from 1 to 7, of 8 steps\n"),
        ("--budgets 3,0", 1, "--budgets: found 0, expected from 1 to 7, of 8 steps\n"),
        ("--budgets a", 2, "Error: Invalid value for --budgets: a: expected whole numbers, such as 25,16\n"),
    ],
)
def test_invalid_budgets_are_rejected(flags: str, code: int, error: str) -> None:
    result = latte(f"calibrate {flags}")
    assert result.exit_code == code
    assert result.stderr.endswith(error)


def test_a_plan_of_calibration_counts_the_full_steps() -> None:
    result = latte("calibrate --samples 2 --budgets 4 --dry-run")
    # Per clip: 8 steps, 7 whose change is kept, and the steps after stretches of 2 to 5 steps;
    # then 8 to compare with, and 4 for each of two schedules.
    after = sum(8 - end for start in range(8) for end in range(start + 2, min(start + 5, 8) + 1))
    assert (
        f"\nmeasures         stretches of up to 5 steps, {2 * (15 + after + 8 + 8)} full steps in all\n"
        in result.stdout
    )
    assert "\nwrites           run/reuse.json\n" in result.stdout


def test_calibration_shows_progress_before_the_model_is_loaded_and_after_every_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    shown = latte("calibrate --samples 1 --budgets 4 --out other.json").stderr.splitlines()
    counts = [int(count) for line in shown for count in re.findall(r"^measuring .* (\d+)/\d+, clip", line)]
    assert counts[:9] == [0, 1, 2, 3, 4, 5, 6, 7, 8], "the clip itself, of eight steps"
    total = int(re.findall(r"/(\d+), clip 1 of 1", shown[0])[0])
    assert counts == sorted(counts)
    assert counts[-1] == total
    by_step = [count for count in counts if count > total - 16]
    assert len(by_step) == 25, "eight steps in full, by two schedules of four full steps, and the end"

    def fails(*_: object) -> None:
        raise LatteError("no weights")

    monkeypatch.setattr(RunGenerator, "trajectories", fails)
    assert latte("calibrate --samples 1 --budgets 4").stderr.splitlines() == [shown[0], "no weights"]


def test_the_calibration_of_a_pipeline_is_written_to_its_folder() -> None:
    shutil.copytree(GOLDEN / "t2v" / "pipeline", "pipeline")
    flags = "--pipeline pipeline --prompt squirrel --steps 4 --num-frames 2 --guidance-scale 4"
    flags += " --set sample.sampler=null"
    result = latte(f"calibrate {flags} --budgets 2 --samples 1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "pipeline/reuse.json"
    content = json.loads(Path("pipeline/reuse.json").read_text())
    scheduler = json.loads(Path("pipeline/scheduler/scheduler_config.json").read_text())["_class_name"]
    assert (content["setup"]["sampler"], content["setup"]["steps"]) == (scheduler, 4)
    (found,) = content["schedules"]

    result = latte(f"sample {flags} --full-steps 2 --guidance-every 2 --format latents --out videos/t2v")
    assert result.exit_code == 0, result.stderr
    sidecar = Path("videos/t2v/000-seed5-squirrel.json")
    content = json.loads(sidecar.read_text())
    assert (content["full_steps"], content["guidance_every"]) == (found["full_steps"], 2)
    Path("pipeline/reuse.json").unlink()
    assert latte(f"sample --replay {sidecar} --out again").exit_code == 0
    assert Path("again/000-seed5-squirrel.npy").read_bytes() == sidecar.with_suffix(".npy").read_bytes()
    plan = latte(f"sample {flags} --full-steps 2 --dry-run").stdout
    assert "\nfull steps       2 of 4, evenly spaced: 0 2\n" in plan
    refused = latte(f"sample {flags} --full-steps 5")
    assert refused.stderr == "sample.full_steps: found 5, expected at most the 4 sampling steps\n"
