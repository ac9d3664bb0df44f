"""Training killed and resumed: python tests/endurance/train.py --kills 30 (see --help). Exit code 1 if a case
fails.

A run of a tiny model in float16 is killed by SIGKILL at random moments, every fifth time while it starts,
and resumed with `--resume auto` each time. At its end it must have left the same as an uninterrupted run: the
bytes of every tensor of the last checkpoint (weights, averages, moments), its place in the data, and
metrics.jsonl except timings. Runs read frames, then a cache.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import safe_open

VAE = Path(__file__).parents[1] / "golden" / "vae" / "diffusers"
EXPERIMENT = f"""
device: cpu
data: {{root: videos, image_size: 32, num_frames: 2, frame_stride: 1, random_flip: true}}
vae: {{weights: {VAE}}}
cache: {{mirror: true}}
model: {{hidden_size: 24, depth: 2, num_heads: 3, patch_size: 2, condition: class, num_classes: 2}}
train:
  batch_size: 2
  accumulation: 2
  learning_rate: 1e-3
  clip_norm: 1.0
  ema_decay: 0.99
  dtype: float16
  log_every: 7
  checkpoint_every: 10
"""
KILLED_EARLY = 5  # every fifth kill comes while the run starts


def make_experiment(work: Path) -> None:
    """Write four small videos of two classes, their cache and the experiment file."""
    generator = np.random.default_rng(0)
    for name in ("a/one", "a/two", "b/three", "b/four"):
        folder = work / "videos" / name
        folder.mkdir(parents=True)
        for frame in range(6):
            pixels = generator.integers(0, 256, (32, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{frame}.png")
    (work / "latte.yaml").write_text(EXPERIMENT)
    subprocess.run(latte("cache", "--out", "latents"), cwd=work, check=True, capture_output=True)


def latte(*arguments: str) -> list[str]:
    """The command line in this checkout."""
    return [sys.executable, "-m", "latte_cli", *arguments]


def train(work: Path, run_dir: str, source: str, steps: int) -> subprocess.Popen[str]:
    """Start or resume a run."""
    flags = ["--run-dir", run_dir, "--steps", str(steps), "--resume", "auto"]
    cached = ["--cache", "latents"] if source == "cache" else []
    return subprocess.Popen(
        latte("train", *flags, *cached), cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a run to end. Raises SystemExit with its output if it fails."""
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"a run ended with {process.returncode}:\n{errors}")


def kill(process: subprocess.Popen[str], run_dir: Path, *, early: bool, seconds: float) -> str:
    """Kill a run after `seconds`, counted from its start if `early`, else from its next checkpoint.

    Returns the moment as text, "ended" if the run ended before.
    """
    begun = time.time() - 0.01
    while not early and process.poll() is None and written(run_dir) < begun:
        time.sleep(0.02)
    time.sleep(seconds)
    moment = "as it started" if early else "as it trained"
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    if process.returncode == 0:
        return "ended"
    if process.returncode != -signal.SIGKILL:
        raise SystemExit(f"a run ended with {process.returncode}:\n{errors}")
    return moment


def written(run_dir: Path) -> float:
    """When the run last wrote a checkpoint, in seconds since the epoch."""
    folder = run_dir / "ckpt"
    return folder.stat().st_mtime if folder.exists() else 0.0


def left_by(run_dir: Path) -> dict[str, Any]:
    """The files of a run, except timings."""
    newest = max((run_dir / "ckpt").glob("step-*.safetensors"))
    found: dict[str, Any] = {}
    with safe_open(newest, framework="np") as file:
        progress = json.loads(file.metadata()["progress"])
        found |= {name: file.get_tensor(name).tobytes() for name in sorted(file.keys())}
    progress["window"].pop("seconds", None)
    progress.pop("settings")  # they name the run folder
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["step_seconds"], line["frames_per_second"]
    return found | {"checkpoint": newest.name, "progress": progress, "metrics": lines}


def kills(work: Path, source: str, *, rounds: int, steps: int, seed: int) -> bool:
    """Whether the killed run leaves the same as the uninterrupted one."""
    generator = random.Random(seed)
    begun = time.monotonic()
    unbroken = train(work, f"{source}-whole", source, steps)
    while unbroken.poll() is None and not written(work / f"{source}-whole"):
        time.sleep(0.02)
    starting = time.monotonic() - begun
    finish(unbroken)
    alone = time.monotonic() - begun
    moments: list[str] = []
    begun = time.monotonic()
    run_dir = work / f"{source}-killed"
    while len(moments) < rounds:
        early = len(moments) % KILLED_EARLY == KILLED_EARLY - 1
        # With a mean of half of this, the kills leave about half of the run to its last process.
        seconds = generator.uniform(0, starting if early else (alone - starting) / rounds)
        moment = kill(train(work, run_dir.name, source, steps), run_dir, early=early, seconds=seconds)
        if moment == "ended":
            break
        moments.append(moment)
        last = max((path.stem for path in run_dir.glob("ckpt/step-*")), default="nothing")
        print(f"{source}: kill {len(moments)} {moment}, with {last}", file=sys.stderr)
    finish(train(work, run_dir.name, source, steps))
    killed, expected = left_by(run_dir), left_by(work / f"{source}-whole")
    differing = [name for name in expected.keys() | killed.keys() if expected.get(name) != killed.get(name)]
    torn = [str(path) for path in run_dir.rglob("*partial*")]
    started = moments.count("as it started")
    held = not differing and not torn and len(moments) == rounds
    print(
        f"{'ok' if held else 'FAILS':5} {source}: {steps} steps killed {len(moments)} times,"
        f" {started} while starting, in {time.monotonic() - begun:.0f} s (alone {alone:.0f} s):"
        f" {len(expected)} tensors and records, {len(differing)} differ, {len(torn)} torn files left",
        flush=True,
    )
    for name in differing[:5]:
        print(f"{source}: {name} differs")
    return held


def main() -> int:
    """Parse the command line and run the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30, metavar="N", help="for each source")
    parser.add_argument("--steps", type=int, default=1200, help="of the run; it must outlast the kills")
    parser.add_argument("--source", choices=["frames", "cache"], action="append")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    held = True
    with tempfile.TemporaryDirectory() as folder:
        make_experiment(Path(folder))
        for source in options.source or ["frames", "cache"]:
            held &= kills(Path(folder), source, rounds=options.kills, steps=options.steps, seed=options.seed)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
