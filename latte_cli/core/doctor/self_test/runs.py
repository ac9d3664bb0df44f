"""Short runs of `latte train` on a device, whose losses should be the same."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from latte_cli.core.doctor.self_test.drawing import normal
from latte_cli.core.doctor.self_test.rows import Row
from latte_cli.core.planning.cost import ACCELERATORS, DEVICES

SECONDS = 300.0  # of a run
STEPS = 4
ALLOWED = 1e-2  # relative, of float16: sums over clips differ in their order
EXPERIMENT = {
    "data": {"root": "videos", "image_size": 64, "num_frames": 4, "frame_stride": 1},
    "vae": {"weights": "demo"},
    "model": {"hidden_size": 144, "depth": 2, "num_heads": 2, "patch_size": 2},
    "cache": {"in_memory": True},
    "train": {
        "batch_size": 2,
        "steps": STEPS,
        "log_every": 1,
        "clip_norm": 0.5,
        "learning_rate": 1e-3,
        "dtype": "float16",
    },
}
ON_TWO = ("--parallel", "2", "--set", "train.batch_size=1")
PROGRAM = "latte_cli"
RUNS: dict[str, Sequence[str]] = {
    "train": ("--set", "train.sink_mode=false"),  # on Ascend it is on by default
    "train-sink-mode": ("--set", "train.sink_mode=true"),
    "train-two-cards": ON_TWO,
    "train-two-cards-sharded": (*ON_TWO, "--set", "train.shard_optimizer=true"),
}


def run_all(
    device: str, folder: Path, names: Sequence[str] = tuple(RUNS), *, module: str = PROGRAM
) -> Iterator[Row]:
    """The rows of the runs, in a folder for their files; the others are compared with the first.

    module: what to run as this program.
    """
    _write_experiment(folder)
    expected: list[float] | None = None
    for name in names:
        reason = _lack(name, device)
        if reason:
            yield Row(name, "not here", reason)
            continue
        begun = time.monotonic()
        losses, failure = _losses(folder, name, device, module)
        seconds = round(time.monotonic() - begun, 2)
        if failure:
            yield Row(name, "failed", failure, seconds)
        elif not np.isfinite(losses).all() or len(losses) != STEPS:
            yield Row(name, "failed", f"found losses {losses}, expected {STEPS} numbers", seconds)
        elif expected is None:
            expected = losses
            yield Row(name, "ok", f"losses {', '.join(f'{loss:.4f}' for loss in losses)}", seconds)
        else:
            error = float(np.max(np.abs(np.divide(losses, expected) - 1)))
            yield Row(name, "ok" if error <= ALLOWED else "failed", "", seconds, error, ALLOWED)


def cards(device: str) -> int:
    """The devices of this machine; a CPU can be shared by any number of workers."""
    if device == "cpu":
        return 2
    return max((len(list(DEVICES.glob(pattern))) for pattern in ACCELERATORS), default=0)


def _lack(name: str, device: str) -> str:
    """Why a run cannot be done here; empty if it can."""
    if name == "train-sink-mode" and device == "cpu":
        return "a CPU has no queue to sink to"
    if ON_TWO[0] in RUNS[name] and (found := cards(device)) < 2:
        return f"found {found} card{'s' * (found != 1)}, expected 2"
    return ""


def _losses(folder: Path, name: str, device: str, module: str) -> tuple[list[float], str]:
    """The losses of a run, and why it failed, if so."""
    command = [sys.executable, "-m", module, "train", "-c", "self-test.yaml", "--run-dir", name]
    package = str(Path(__file__).parents[4])  # where it was imported from, installed or not
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [*command, "--device", device, *RUNS[name]],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [], f"no end within {SECONDS:g} s"
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return [], lines[-1] if lines else f"exit code {done.returncode}"
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines], ""


def _write_experiment(folder: Path) -> None:
    """Three videos of noise, and the experiment; JSON is YAML."""
    (folder / "self-test.yaml").write_text(json.dumps(EXPERIMENT))
    for video in "abc":
        (folder / "videos" / video).mkdir(parents=True)
        for number, frame in enumerate(normal(f"video {video}", 6, 64, 64, 3)):
            pixels = (128 + 40 * frame).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "videos" / video / f"{number}.png")
