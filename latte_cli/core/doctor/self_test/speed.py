"""The speed of training steps, by the measurements of `latte bench`."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from latte_cli.core.bench.rows import Row as BenchRow
from latte_cli.core.bench.rows import to_json
from latte_cli.core.doctor.self_test.rows import Row
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.json_files import read_json

SECONDS = 300.0
WORKER = "latte_cli.core.bench.worker"
MODEL: dict[str, Any] = {"preset": "Latte-S/2"}
CLIP = {"image_size": 256, "num_frames": 16}
SMALL_CLIP = {"image_size": 64, "num_frames": 4}  # for a CPU


def measure(device: str, folder: Path) -> Row:
    """A row for Latte-S/2 in float16 on cached latents, in a folder for its files."""
    name, begun = "speed", time.monotonic()
    small = device == "cpu"
    data = SMALL_CLIP if small else CLIP
    settings = Settings.model_validate(
        {
            "device": device,
            "data": data,
            "model": MODEL,
            "train": {"dtype": "float16", "batch_size": 1 if small else 5},
            "bench": {"steps": 5, "warmup_steps": 2},
        }
    )
    row = BenchRow(
        cards=1,
        recompute=False,
        sink=False,
        cache=True,
        batch=settings.train.batch_size,
        frames=data["num_frames"],
    )
    found = _measured(settings, row, folder)
    seconds = round(time.monotonic() - begun, 2)
    if problem := found.get("problem"):
        return Row(name, "failed", problem, seconds)
    step, first = found["step_seconds"]["median"], found["compile_seconds"]
    text = (
        f"Latte-S/2, float16, {row.batch} x {row.frames} frames of {data['image_size']} px:"
        f" {step:.3g} s per step, {found['images_per_second']:.1f} images/s,"
        f" {found['peak_bytes'] / 1e9:.2f} GB, compiled in {first:.1f} s"
    )
    return Row(name, "ok", text, seconds)


def _measured(settings: Settings, row: BenchRow, folder: Path) -> dict[str, Any]:
    job, result, log = (folder / name for name in ("job.json", "result.json", "log"))
    values = {"kind": "train", "settings": settings.model_dump(mode="json"), "row": to_json(row)}
    job.write_text(json.dumps({**values, "cores": None}))
    with log.open("wb") as file:
        command = [sys.executable, "-m", WORKER, str(job), str(result), str(os.getpid())]
        try:
            done = subprocess.run(command, stdout=file, stderr=file, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return {"problem": f"no end within {SECONDS:g} s"}
    if result.exists():
        return read_json(result, dict[str, Any])
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return {"problem": lines[-1] if lines else f"ended with code {done.returncode}"}
