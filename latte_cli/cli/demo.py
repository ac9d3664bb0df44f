"""The demo: train a small Latte on a real clip, sample from it, and say how near the samples come.

`python -m latte_cli.cli.demo`, which `make demo` calls, runs what `latte train` and `latte sample` run.
"""

import logging
import sys
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.cli.progress import LogHandler, follow, sampling_line, show, training_line
from latte_cli.core.data.clips.frames import FrameSource
from latte_cli.core.data.videos.find import index_clips
from latte_cli.core.data.videos.transforms import clip_indices, last_begin
from latte_cli.core.errors import LatteError
from latte_cli.core.evaluate.pixels import psnr, squared_distances
from latte_cli.core.recipes import sample, train
from latte_cli.core.settings.loading import load_settings
from latte_cli.core.settings.schema import Settings

Frames = NDArray[np.uint8]


def main() -> int:
    """Run the demo, going on where an earlier one was stopped; gives the exit code."""
    logging.basicConfig(handlers=[LogHandler()], force=True)
    try:
        settings = load_settings(command="train")
        deque(follow(train.run(settings, resume="auto"), training_line), maxlen=0)
        run_dir = settings.run_dir
        clips = _training_clips(settings)
        figures = {
            name: _figure(settings, checkpoint, run_dir / name, clips)
            for name, checkpoint in (("samples", None), ("untrained", _untrained(settings)))
        }
    except LatteError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    show(
        f"video          {run_dir / 'samples' / 'grid.mp4'}\n"
        f"contact sheet  {run_dir / 'samples' / 'grid.png'}\n"
        f"loss curve     {run_dir / 'loss.png'}\n"
        f"PSNR to the nearest training clip, mean of {settings.sample.num_samples} sampled clips: "
        f"{figures['samples']:.1f} dB; of the untrained model: {figures['untrained']:.1f} dB\n"
    )
    return 0


def _figure(settings: Settings, checkpoint: Path | None, out: Path, clips: Frames) -> float:
    """Sample from a checkpoint: the samples' mean PSNR in dB to their nearest training clips."""
    reports = sample.run(settings, checkpoint=checkpoint, formats=("mp4", "gif", "png"), out=out)
    sampled = [report.frames for report in follow(reports, sampling_line) if report.frames is not None]
    nearest = squared_distances(np.stack(sampled), clips).min(axis=1)
    return float(np.mean([psnr(int(distance), clips[0].size) for distance in nearest]))


def _training_clips(settings: Settings) -> Frames:
    """Every clip that training can draw, as uint8 frames (N, F, H, W, 3)."""
    data = settings.data
    source = FrameSource(index_clips(data), data)
    clips = []
    for video, total in enumerate(source.frames):
        pixels = source.read(video, list(range(total)), mirror=False)
        frames = np.round((pixels + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
        for begin in range(last_begin(total, data.num_frames, data.frame_stride) + 1):
            indices = clip_indices(
                begin, total, num_frames=data.num_frames, frame_stride=data.frame_stride, spacing=data.spacing
            )
            clips.append(frames[indices])
    return np.stack(clips)


def _untrained(settings: Settings) -> Path:
    """A file of the weights that training started from."""
    from safetensors.numpy import save_file

    from latte_cli.core.files import whole_file
    from latte_cli.core.models.latte.transformer import Latte, initialise
    from latte_cli.core.models.shape import resolve_model

    model = Latte(resolve_model(settings), num_timesteps=settings.diffusion.num_timesteps)
    initialise(model, settings.seed)
    path = settings.run_dir / "untrained.safetensors"
    with whole_file(path) as partial:
        save_file({parameter.name: parameter.asnumpy() for parameter in model.get_parameters()}, partial)
    return path


if __name__ == "__main__":
    sys.exit(main())
