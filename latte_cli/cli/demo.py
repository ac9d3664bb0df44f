"""`latte demo`: train a small model on a real clip, sample from it, and measure the similarity."""

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from latte_cli.cli import options
from latte_cli.cli.running import load, stop_at_plan
from latte_cli.core.errors import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from latte_cli.core.settings.schema import Settings

    Frames = NDArray[np.uint8]

EXAMPLES = (
    ("Train, sample and measure: a few minutes on a laptop", "latte demo"),
    ("In another folder, with fewer steps", "latte demo --run-dir quick --set train.steps=200"),
)


def demo(
    run_dir: options.RunDir = None,
    config: options.DemoConfig = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Train a small model on a real clip, and sample from it."""
    config = config or Path("demo")  # also where there is a latte.yaml: it may be of weeks of training
    settings = load("train", config, assignments, {"run_dir": run_dir, "device": device}, log_level)
    from latte_cli.core.planning.runs import train_plan

    if stop_at_plan(settings, train_plan(settings), dry_run=dry_run):
        return
    from latte_cli.cli.progress import follow, show, training_line
    from latte_cli.core.recipes import train

    deque(follow(train.run(settings, resume="auto"), training_line), maxlen=0)
    run_dir, clips = settings.run_dir, _training_clips(settings)
    trained = _mean_psnr(settings, None, run_dir / "samples", clips)
    untrained = _mean_psnr(settings, _untrained(settings), run_dir / "untrained", clips)
    show(
        f"video          {one_line(run_dir / 'samples' / 'grid.mp4')}\n"
        f"contact sheet  {one_line(run_dir / 'samples' / 'grid.png')}\n"
        f"loss curve     {one_line(run_dir / 'loss.png')}\n"
        f"PSNR to the nearest training clip, mean of {settings.sample.num_samples} sampled clips: "
        f"{trained:.1f} dB; of the untrained model: {untrained:.1f} dB\n"
    )


def _mean_psnr(settings: "Settings", checkpoint: Path | None, out: Path, clips: "Frames") -> float:
    """Sample from a checkpoint; return the samples' mean PSNR in dB to their nearest training clips."""
    import numpy as np

    from latte_cli.cli.progress import follow, sampling_line
    from latte_cli.core.evaluate.pixels import psnr, squared_distances
    from latte_cli.core.recipes import sample
    from latte_cli.core.sampling.spec import Request

    request = Request(checkpoint=checkpoint, formats=("mp4", "gif", "png"), out=out)
    reports = sample.run(settings, request)
    sampled = [report.frames for report in follow(reports, sampling_line) if report.frames is not None]
    nearest = squared_distances(np.stack(sampled), clips).min(axis=1)
    return float(np.mean([psnr(int(distance), clips[0].size) for distance in nearest]))


def _training_clips(settings: "Settings") -> "Frames":
    """All possible training clips, as uint8 frames (N, F, H, W, 3)."""
    import numpy as np

    from latte_cli.core.data.clips.frames import FrameSource
    from latte_cli.core.data.videos.find import index_clips
    from latte_cli.core.data.videos.transforms import clip_indices, last_begin, to_uint8

    data = settings.data
    source = FrameSource(index_clips(data), data)
    clips = []
    for video, total in enumerate(source.frames):
        pixels = source.read(video, list(range(total)), mirror=False)
        frames = to_uint8(pixels)
        for begin in range(last_begin(total, data.num_frames, data.frame_stride) + 1):
            indices = clip_indices(
                begin, total, num_frames=data.num_frames, frame_stride=data.frame_stride, spacing=data.spacing
            )
            clips.append(frames[indices])
    return np.stack(clips)


def _untrained(settings: "Settings") -> Path:
    """A file with the initial weights of training."""
    from safetensors.numpy import save_file

    from latte_cli.core.models.architectures import build_model
    from latte_cli.core.storage.files import atomic_file

    model = build_model(settings)
    path = settings.run_dir / "untrained.safetensors"
    with atomic_file(path) as partial:
        save_file({parameter.name: parameter.asnumpy() for parameter in model.get_parameters()}, partial)
    return path
