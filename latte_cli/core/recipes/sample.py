"""Make clips from a checkpoint: files a person can watch, and beside each what made it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
)
from latte_cli.core.errors import LatteError
from latte_cli.core.models.shape import resolve_model
from latte_cli.core.parallel.world import World
from latte_cli.core.settings import Settings
from latte_cli.core.shared_clips import make_all, make_share

if TYPE_CHECKING:
    from latte_cli.core.sampling import Clip, Denoiser


def run(
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    out: Path | None = None,
    initial_latents: Path | None = None,
    workers: int = 1,
) -> Iterator[SampleReport]:
    """Sample, yielding a report a step; files appear whole, clip by clip, in `out` or the run's samples/.

    checkpoint: weights of any format; else the run folder's newest, whose averaged weights are used.
    initial_latents: a .npy of noise (N, F, 4, h, w), a clip a row. workers: processes that share the clips.
    Raises LatteError for what a user can fix.
    """
    path = newest_checkpoint(settings) if checkpoint is None else checkpoint
    records = _records(settings, path, initial_latents)
    yield from make_all(records, target_of(settings, formats, out), _make, workers)


def replay(sidecar: Path, *, out: Path | None = None) -> Iterator[SampleReport]:
    """Make a clip again from its sidecar: the same bytes, beside it or in `out`.

    Raises LatteError when the sidecar is none, or a file it names has changed.
    """
    record = read_record(sidecar)
    try:
        settings = Settings.model_validate(record["settings"])
        name, formats = record["name"], tuple(record["formats"])
    except (ValueError, KeyError, TypeError) as error:
        raise no_record(sidecar, error) from error
    target = ClipFiles(sidecar.parent if out is None else out, formats, settings.sample.fps)
    yield from make_all({name: record}, target, _make)


def run_share(
    settings: Settings, world: World, *, formats: Sequence[str] = DEFAULT_FORMATS, out: Path | None = None
) -> Iterator[SampleReport]:
    """One worker's share of a run with several."""
    yield from make_share(target_of(settings, formats, out), _make, world)


def target_of(settings: Settings, formats: Sequence[str], out: Path | None) -> ClipFiles:
    """Where the clips go."""
    return ClipFiles(out or settings.run_dir / "samples", tuple(formats), settings.sample.fps)


def newest_checkpoint(settings: Settings) -> Path:
    """The run folder's newest checkpoint. Raises LatteError when there is none."""
    found = sorted((settings.run_dir / "ckpt").glob("step-*.safetensors"))
    if not found:
        raise LatteError(f"{settings.run_dir}: holds no checkpoint; train first, or give --checkpoint")
    return found[-1]


def _records(settings: Settings, checkpoint: Path, initial_latents: Path | None) -> dict[str, Record]:
    """What makes each clip, by its name. Labels come in turn, as do the seeds."""
    sample, classes, number = settings.sample, settings.model.num_classes, settings.sample.num_samples
    if initial_latents is not None:
        number = len(read_noise(initial_latents, _clip_shape(settings)))
    common = {
        "checkpoint": str(checkpoint),
        "initial_latents": None if initial_latents is None else str(initial_latents),
        "sha256": digests([checkpoint, initial_latents]),
        "settings": json.loads(settings.model_dump_json()),
    }
    records: dict[str, Record] = {}
    for place in range(number):
        label = None
        if classes is not None:
            labels = sample.class_labels or range(classes)
            label = labels[place % len(labels)]
        name = f"{place:03d}-seed{sample.seed + place}" + ("" if label is None else f"-class{label}")
        records[name] = {"seed": sample.seed + place, "class_label": label, "row": place, **common}
    return records


def _make(records: Mapping[str, Record], target: ClipFiles) -> Iterator[ClipStep]:
    """Denoise and decode the clips that records tell. Raises LatteError for a record of something else."""
    try:
        common = next(iter(records.values()))
        settings, checkpoint = Settings.model_validate(common["settings"]), Path(common["checkpoint"])
        noise = None
        if (initial := common["initial_latents"]) is not None:
            noise = read_noise(Path(initial), _clip_shape(settings))
        clips = [_clip(record, noise) for record in records.values()]
    except (ValueError, KeyError, TypeError) as error:
        raise no_record(target.folder / f"{next(iter(records))}.json", error) from error
    from latte_cli.core.device import use_device
    from latte_cli.core.diffusion.schedule import make_schedule
    from latte_cli.core.sampling import denoise

    use_device(settings.device)
    sample, number = settings.sample, len(clips)
    schedule = make_schedule(settings.diffusion, sample.respacing or str(sample.steps))
    denoiser = _denoiser(settings, checkpoint)
    decode = _decoder(settings) if target.decodes else None
    for place, clip in enumerate(clips):
        for step in denoise(denoiser, clip, schedule, sample):
            done, latents = step.index + 1, np.asarray(step.x_t[0], np.float32)
            frames = decode(latents) if decode and done == schedule.num_timesteps else None
            yield ClipStep(place, number, done, schedule.num_timesteps, latents, frames)


def _clip(record: Record, noise: NDArray[np.float32] | None) -> "Clip":
    from latte_cli.core.sampling import Clip

    return Clip(record["seed"], record["class_label"], None if noise is None else noise[record["row"]])


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
