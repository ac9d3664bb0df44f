"""Make clips from a checkpoint: files a person can watch, and beside each what made it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.clips import (
    DEFAULT_FORMATS,
    ClipFiles,
    ClipStep,
    Record,
    SampleReport,
    digests,
    no_record,
    read_noise,
    read_record,
    write_clips,
)
from latte_cli.core.errors import LatteError
from latte_cli.core.models.shape import resolve_model
from latte_cli.core.settings import Settings

if TYPE_CHECKING:
    from latte_cli.core.sampling import Clip, Denoiser


@dataclass(frozen=True)
class Job:
    """What to make: clips by name."""

    checkpoint: Path
    clips: "Mapping[str, Clip]"
    target: ClipFiles
    initial_latents: Path | None = None


def run(
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    out: Path | None = None,
    initial_latents: Path | None = None,
) -> Iterator[SampleReport]:
    """Sample, yielding a report a step; files appear whole, clip by clip, in `out` or the run's samples/.

    checkpoint: weights of any format; else the run folder's newest, whose averaged weights are used.
    initial_latents: a .npy of noise (N, F, 4, h, w), a clip a row. Raises LatteError for what a user can fix.
    """
    path = newest_checkpoint(settings) if checkpoint is None else checkpoint
    noise = None if initial_latents is None else read_noise(initial_latents, _clip_shape(settings))
    folder = settings.run_dir / "samples" if out is None else out
    target = ClipFiles(folder, tuple(formats), settings.sample.fps)
    yield from _run(settings, Job(path, _clips(settings, noise), target, initial_latents))


def replay(sidecar: Path, *, out: Path | None = None) -> Iterator[SampleReport]:
    """Make a clip again from its sidecar: the same bytes, beside it or in `out`.

    Raises LatteError when the sidecar is none, or a file it names has changed.
    """
    from latte_cli.core.sampling import Clip

    record = read_record(sidecar)
    try:
        settings = Settings.model_validate(record["settings"])
        checkpoint, name, label = Path(record["checkpoint"]), record["name"], record["class_label"]
        initial, row = record["initial_latents"], record["row"]
        formats, seed = tuple(record["formats"]), record["seed"]
    except (ValueError, KeyError, TypeError) as error:
        raise no_record(sidecar, error) from error
    noise = None if initial is None else read_noise(Path(initial), _clip_shape(settings))[row]
    clip = Clip(seed=seed, class_label=label, initial_latents=noise)
    target = ClipFiles(sidecar.parent if out is None else out, formats, settings.sample.fps)
    yield from _run(settings, Job(checkpoint, {name: clip}, target, initial))


def newest_checkpoint(settings: Settings) -> Path:
    """The run folder's newest checkpoint. Raises LatteError when there is none."""
    found = sorted((settings.run_dir / "ckpt").glob("step-*.safetensors"))
    if not found:
        raise LatteError(f"{settings.run_dir}: holds no checkpoint; train first, or give --checkpoint")
    return found[-1]


def _clips(settings: Settings, noise: NDArray[np.float32] | None) -> "dict[str, Clip]":
    """The clips by name. Labels come in turn, as do the seeds."""
    from latte_cli.core.sampling import Clip

    number = settings.sample.num_samples if noise is None else len(noise)
    clips = {}
    for place in range(number):
        label = None
        if settings.model.num_classes is not None:
            labels = settings.sample.class_labels or range(settings.model.num_classes)
            label = labels[place % len(labels)]
        seed = settings.sample.seed + place
        name = f"{place:03d}-seed{seed}" + ("" if label is None else f"-class{label}")
        clips[name] = Clip(seed, label, None if noise is None else noise[place])
    return clips


def _run(settings: Settings, job: Job) -> Iterator[SampleReport]:
    from latte_cli.core.device import use_device

    use_device(settings.device)
    yield from write_clips(_steps(settings, job), _records(settings, job), job.target)


def _records(settings: Settings, job: Job) -> dict[str, Record]:
    """What makes each clip."""
    files = digests([job.checkpoint, job.initial_latents])
    plain = json.loads(settings.model_dump_json())
    return {
        name: {
            "seed": clip.seed,
            "class_label": clip.class_label,
            "checkpoint": str(job.checkpoint),
            "initial_latents": None if job.initial_latents is None else str(job.initial_latents),
            "row": place,
            "sha256": files,
            "settings": plain,
        }
        for place, (name, clip) in enumerate(job.clips.items())
    }


def _steps(settings: Settings, job: Job) -> Iterator[ClipStep]:
    """Denoise and decode clip by clip."""
    from latte_cli.core.diffusion.schedule import make_schedule
    from latte_cli.core.sampling import denoise

    sample, number = settings.sample, len(job.clips)
    schedule = make_schedule(settings.diffusion, sample.respacing or str(sample.steps))
    denoiser = _denoiser(settings, job.checkpoint)
    decode = _decoder(settings) if job.target.decodes else None
    total = schedule.num_timesteps
    for place, clip in enumerate(job.clips.values()):
        for step in denoise(denoiser, clip, schedule, sample):
            if step.index + 1 < total:
                yield ClipStep(place, number, step.index + 1, total)
        latents = np.asarray(step.x_t[0], np.float32)
        yield ClipStep(place, number, total, total, latents, None if decode is None else decode(latents))


def _decoder(settings: Settings) -> Callable[[NDArray[np.float32]], NDArray[np.uint8]]:
    """Scaled latents (F, 4, h, w) to frames (F, H, W, 3)."""
    from latte_cli.core.models.vae import load_vae, to_uint8

    vae = load_vae(settings.vae)
    return lambda latents: to_uint8(vae.decode(latents))


def _denoiser(settings: Settings, checkpoint: Path) -> "Denoiser":
    from latte_cli.core.checkpoints.mapping import load_latte
    from latte_cli.core.models.latte import Latte, load_weights
    from latte_cli.core.sampling import Denoiser

    model = Latte(resolve_model(settings), num_timesteps=settings.diffusion.num_timesteps)
    load_weights(model, load_latte(checkpoint).read_all(), source=str(checkpoint))
    return Denoiser(model)


def _clip_shape(settings: Settings) -> tuple[int, ...]:
    """(F, 4, h, w) of a clip's latents."""
    shape = resolve_model(settings)
    return (shape.num_frames, shape.in_channels, shape.sample_size, shape.sample_size)
