"""Each command run completely on a tiny experiment: its output and its files."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from latte_cli.cli import app as cli
from latte_cli.core.experiment.loading import load_settings

GOLDEN = Path(__file__).parents[1] / "golden"
runner = CliRunner()


def latte(line: str) -> Result:
    """Run a command; errors other than LatteError are raised."""
    return runner.invoke(cli.app, line.split(), catch_exceptions=False)


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_experiment: Callable[..., str],
    noise_videos: Callable[..., None],
) -> Iterator[Path]:
    """A working directory with a tiny experiment of two videos, trained."""
    folder, before = tmp_path_factory.mktemp("experiment"), Path.cwd()
    noise_videos(folder / "videos", "one", "two")
    os.chdir(folder)
    sample = {"sampler": "ddim", "steps": 2, "num_samples": 2, "seed": 5}
    Path("latte.yaml").write_text(tiny_experiment(sample=sample))
    result = latte("train")
    assert (result.exit_code, result.stdout) == (0, "run\n")
    yield folder
    os.chdir(before)


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_a_run_folder_contains_settings_metrics_and_a_checkpoint() -> None:
    assert load_settings(Path("run/settings.yaml")) == load_settings()
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    names = "step loss mse vb grad_norm lr loss_scale step_seconds frames_per_second"
    assert list(lines[0]) == names.split()
    assert [path.name for path in Path("run/ckpt").glob("*.safetensors")] == ["step-00000002.safetensors"]


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("kind", ["numpy", "mindrecord"])
def test_training_from_a_cache_has_the_losses_of_training_from_frames(kind: str) -> None:
    stored = "--set cache.store=sample --set cache.dtype=float32"
    assert latte(f"cache --out latents-{kind} --type {kind} {stored}").exit_code == 0
    losses = []
    for name, source in (("frames", ""), ("cache", f"--cache latents-{kind}")):
        result = latte(f"train {source} {stored} --steps 6 --run-dir {name}-{kind}")
        assert result.exit_code == 0
        lines = Path(f"{name}-{kind}", "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert len(losses[0]) == 6
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_training_into_a_run_folder_in_use_is_rejected() -> None:
    result = latte("train")
    assert result.exit_code == 1
    assert result.stderr == (
        "run: already contains a run (last checkpoint step-00000002.safetensors); use"
        " --resume auto or another --run-dir\n"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_written_samples_are_listed_and_replayed_with_the_same_bytes() -> None:
    result = latte("sample --format gif --format latents")
    assert result.exit_code == 0
    files = [Path(line) for line in result.stdout.splitlines()]
    names = [f"00{place}-seed{place + 5}.{suffix}" for place in (0, 1) for suffix in ("gif", "npy", "json")]
    assert [path.name for path in files] == [*names, "grid.png", "grid.mp4"]
    assert all(path.parent == Path("run/samples") for path in files)

    again = latte("sample --replay run/samples/001-seed6.json --out again")
    assert again.exit_code == 0
    for name in ("001-seed6.gif", "001-seed6.npy"):
        assert (Path("again") / name).read_bytes() == (Path("run/samples") / name).read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_the_clips_of_a_folder_of_samples_are_evaluated_without_their_sheets_and_grids() -> None:
    every = " ".join(f"--format {name}" for name in ("png", "latents", "gif", "mp4"))
    assert latte(f"sample {every} --out written").exit_code == 0
    clips = sorted(Path("written").glob("00*.mp4"))
    Path("clips").mkdir()
    for clip in clips:
        shutil.copy(clip, "clips")
    figures = []
    for folder in ("written", "clips"):
        flags = f"--real videos --generated {folder} --metrics psnr,ssim --report report.json"
        result = latte(f"evaluate {flags} --num-frames 2")
        assert (result.exit_code, result.stderr.count("left out")) == (0, 0), result.stderr
        found = json.loads(Path("report.json").read_text())
        assert found["protocol"]["videos"]["generated"] == len(clips) == 2
        figures.append((found["psnr"], found["ssim"]))
    assert figures[0] == figures[1]
    plan = latte("evaluate --real videos --generated written --metrics psnr --num-frames 2 --dry-run")
    assert "generated        written: 2 videos\n" in plan.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_samples_that_are_contact_sheets_alone_are_no_clips() -> None:
    assert latte("sample --format png --num-samples 1 --out sheets").exit_code == 0
    result = latte("evaluate --real videos --generated sheets --metrics psnr --num-frames 2")
    assert result.exit_code == 1
    assert result.stderr == (
        "--generated: sheets: contains contact sheets, grids or previews of training, but no clip of"
        " `latte sample` as mp4 or gif\n"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_the_report_is_updated_by_training_sampling_and_evaluation() -> None:
    before = Path("run/report.html").read_text()
    assert "Step 2 of 2" in before
    assert latte("sample --format gif --num-samples 1 --seed 77").exit_code == 0
    sampled = Path("run/report.html").read_text()
    content = base64.b64encode(Path("run/samples/000-seed77.gif").read_bytes()).decode()
    assert f"data:image/gif;base64,{content}" in sampled
    assert latte("evaluate --metrics psnr --draws 1").exit_code == 0
    psnr = json.loads(Path("run/evaluate.json").read_text())["psnr"]["value"]
    assert f"<strong>{psnr:.4g}</strong>" in Path("run/report.html").read_text()
    assert len(Path("run/commands.jsonl").read_text().splitlines()) >= 3


@pytest.mark.slow
def test_workers_share_the_samples_and_write_the_same_files(trained: Path) -> None:
    for target, flags in (("by_one", ()), ("by_two", ("--parallel", "2"))):
        command = [sys.executable, "-m", "latte_cli", "sample", "--num-samples", "3", "--out", target, *flags]
        done = subprocess.run(command, cwd=trained, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        ends = [f"00{place}-seed{place + 5}.{end}" for place in range(3) for end in ("mp4", "png", "json")]
        assert done.stdout.splitlines() == [f"{target}/{end}" for end in (*ends, "grid.png", "grid.mp4")]
    files = [
        {path.name: path.read_bytes() for path in (trained / target).iterdir() if path.is_file()}
        for target in ("by_one", "by_two")
    ]
    assert len(files[0]) == 11
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_a_cache_is_written_verified_and_continued() -> None:
    filled = latte("cache --out latents")
    assert (filled.exit_code, filled.stdout) == (
        0,
        "Start Video Index: 0.\nSaving Attempts: 0: save 2 videos, failed 0 videos.\n",
    )
    verified = latte("cache --out latents --verify")
    assert (verified.exit_code, verified.stdout) == (0, "2 entries, all intact\n")
    moved = "--data gone --set vae.weights=gone.ckpt --set text.encoder=gone"  # as on another machine
    verified = latte(f"cache --out latents --verify {moved}")
    assert (verified.exit_code, verified.stdout) == (0, "2 entries, all intact\n")
    assert verified.stderr.startswith(
        "warning: vae.weights: gone.ckpt: no such file; not compared with the cache's"
    )
    again = latte("cache --out latents")
    assert again.stdout.endswith("save 0 videos, failed 0 videos.\n")
    plan = latte("train --cache latents --dry-run")
    assert "data             latents: latents of 2 videos\n" in plan.stdout


@pytest.mark.slow
def test_workers_share_the_encoding_and_write_the_same_cache(trained: Path) -> None:
    for target, flags in (("alone", ()), ("shared", ("--parallel", "2"))):
        command = [sys.executable, "-m", "latte_cli", "cache", "--out", target, *flags]
        done = subprocess.run(command, cwd=trained, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("Saving Attempts: 0: save 2 videos, failed 0 videos.\n")
    files = [
        {path.name: path.read_bytes() for path in (trained / target).rglob("*.npy")}
        for target in ("alone", "shared")
    ]
    assert len(files[0]) == 2
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_a_damaged_cache_entry_is_named() -> None:
    latte("cache --out damaged")
    entry = next(Path("damaged").rglob("*one*.npy"))
    entry.write_bytes(entry.read_bytes()[:-1] + b"x")
    result = latte("cache --out damaged --verify")
    assert result.exit_code == 1
    assert result.stderr.endswith("cache.dir: damaged: 1 of 2 entries are missing, torn or stale\n")
    assert result.stdout.startswith("torn: one: ")


def write_experiment(path: Path, model: Path) -> None:
    """An experiment file for a recorded model."""
    recorded = json.loads((model / "config.json").read_text())
    sizes = {name: recorded[name] for name in ("hidden_size", "depth", "num_heads", "patch_size")}
    if recorded["num_classes"] is not None:
        sizes |= {"condition": "class", "num_classes": recorded["num_classes"]}
    data = {"image_size": 8 * recorded["input_size"], "num_frames": recorded["num_frames"]}
    path.write_text(json.dumps({"device": "cpu", "model": sizes, "data": data}))


@pytest.mark.slow
@pytest.mark.parametrize(("model", "flags"), [("uncond", ""), ("cfg", "--class-label 1 --guidance-scale 4")])
def test_sampling_a_recorded_checkpoint_matches_the_original(tmp_path: Path, model: str, flags: str) -> None:
    recorded = np.load(GOLDEN / "diffusion" / f"traj_ddim_{model}.npz")
    folder = GOLDEN / "latte" / ("class" if model == "cfg" else model)
    write_experiment(tmp_path / "latte.yaml", folder)
    np.save(tmp_path / "z.npy", recorded["z"][:1])
    result = latte(
        f"sample -c {tmp_path}/latte.yaml --checkpoint {folder}/ckpt_train.pt --out {tmp_path}/out"
        f" --initial-latents {tmp_path}/z.npy --set sample.respacing=ddim10 --sampler ddim --format latents"
        f" {flags}"
    )
    assert result.exit_code == 0, result.stderr
    latents = np.load(next((tmp_path / "out").glob("*.npy")))
    assert latents.dtype == np.float32
    largest = np.abs(recorded["trajectory"]).max()
    np.testing.assert_allclose(latents, recorded["final"][0], rtol=0, atol=1e-4 * largest)


def test_a_converted_checkpoint_is_described(tmp_path: Path) -> None:
    source, target = GOLDEN / "latte" / "uncond" / "ckpt_train.pt", tmp_path / "latte.ckpt"
    result = latte(f"convert --source {source} --target {target} --report {tmp_path}/report.json")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].startswith("Latte of width 24, depth 2, patch 2: unconditional")
    assert result.stdout.endswith(f"wrote       {target}\n")
    assert json.loads((tmp_path / "report.json").read_text())["target"] == str(target)
