"""What fewer sampling steps cost: python tests/endurance/samplers.py RUN_DIR [--clips 8] (see --help).

Draws clips from a run by several samplers, from the same seeds, and compares them with every training clip in
the autoencoder's latent space. Printed, each a root mean square over a clip's scaled latents: how far a
sampled clip is from the training clip nearest to it (how true), and how far a training clip is from the
sampled clip nearest to it (how much of the data is covered); means and worst. Beside them the same for as
many training clips of other moments, and for noise.
"""

import argparse
import tempfile
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.data.clips.frames import FrameSource
from latte_cli.core.data.videos.find import index_clips
from latte_cli.core.data.videos.transforms import clip_indices, last_begin
from latte_cli.core.experiment.loading import load_settings, parse_override
from latte_cli.core.models.vae.autoencoder import load_vae
from latte_cli.core.recipes import sample
from latte_cli.core.sampling.spec import Request
from latte_cli.core.settings.schema import Settings

Array = NDArray[np.float32]
METHODS = (
    ("ddpm", 250),
    ("ddpm", 50),
    ("ddim", 250),
    ("ddim", 50),
    ("dpm++", 50),
    ("dpm++", 25),
    ("dpm++", 20),
)


def training_clips(settings: Settings) -> Array:
    """The scaled latents of every clip that training cuts: (N, F * 4 * h * w)."""
    index, vae, data = index_clips(settings.data), load_vae(settings.vae), settings.data
    source, clips = FrameSource(index, data), []
    for video, total in enumerate(source.frames):
        moments = vae.encode(source.read(video, list(range(total)), mirror=False))
        means = moments[:, :4] * np.float32(settings.vae.scaling_factor)
        for begin in range(last_begin(total, data.num_frames, data.frame_stride) + 1):
            places = clip_indices(
                begin, total, num_frames=data.num_frames, frame_stride=data.frame_stride, spacing=data.spacing
            )
            clips.append(means[places].ravel())
    return np.stack(clips)


def sampled_clips(settings: Settings, run_dir: Path, *, sampler: str, steps: int, clips: int) -> Array:
    """Clips of a run: (N, F * 4 * h * w)."""
    changes = {"sampler": sampler, "steps": steps, "num_samples": clips, "respacing": None}
    asked = settings.model_copy(
        update={"run_dir": run_dir, "sample": settings.sample.model_copy(update=changes)}
    )
    with tempfile.TemporaryDirectory() as folder:
        deque(sample.run(asked, Request(formats=("latents",), out=Path(folder))), maxlen=0)
        return np.stack([np.load(path).ravel() for path in sorted(Path(folder).glob("*.npy"))])


def distances(ones: Array, others: Array) -> Array:
    """Root mean squares of every difference: (len(ones), len(others))."""
    squares = (ones**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * ones @ others.T
    return np.sqrt(squares.clip(0) / ones.shape[1])


def row(name: str, clips: Array, real: Array) -> str:
    """A line of the table."""
    between = distances(clips, real)
    true, covered = between.min(1), between.min(0)
    return (
        f"| {name:<14} | {true.mean():.3f} | {true.max():.3f} | {covered.mean():.3f} | {covered.max():.3f} |"
        f" {np.abs(clips).max():.1f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    args = parser.parse_args()
    settings = load_settings(args.run_dir / "settings.yaml", [parse_override("device=cpu")])
    real = training_clips(settings)
    print("| clips | to the nearest training clip | worst | from a training clip | worst | largest latent |")
    print("| --- | --- | --- | --- | --- | --- |")
    for sampler, steps in METHODS:
        clips = sampled_clips(settings, args.run_dir, sampler=sampler, steps=steps, clips=args.clips)
        print(row(f"{sampler} {steps}", clips, real), flush=True)
    apart = np.linspace(0, len(real) - 1, args.clips).astype(int)
    print(row("training clips", real[apart], np.delete(real, apart, 0)))
    noise = np.random.default_rng(0).standard_normal((args.clips, real.shape[1])).astype(np.float32)
    print(row("noise", noise, real))


if __name__ == "__main__":
    main()
