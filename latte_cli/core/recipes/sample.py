"""Make clips from a checkpoint: files a person can watch, and beside each what made it."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latte_cli import __version__
from latte_cli.core.data.media import contact_sheet, grid, write_gif, write_mp4, write_png
from latte_cli.core.errors import LatteError
from latte_cli.core.files import whole_file, write_whole
from latte_cli.core.models.shape import resolve_model
from latte_cli.core.settings import Settings

if TYPE_CHECKING:
    from latte_cli.core.sampling import Clip, Denoiser

DEFAULT_FORMATS = ("mp4", "png")
LATENTS = "latents"


@dataclass(frozen=True)
class SampleReport:
    """A step of a clip; on its last one, or at the end of all, the files that were written.

    `frames` are the finished clip's, (F, H, W, 3) uint8, where it was decoded.
    """

    clip: int
    clips: int
    step: int
    steps: int
    files: tuple[Path, ...] = ()
    frames: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Job:
    """What to make: clips by name, and how they are written."""

    checkpoint: Path
    clips: "dict[str, Clip]"
    formats: Sequence[str]
    out: Path
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
    noise = None if initial_latents is None else _read_noise(initial_latents, settings)
    job = Job(
        path,
        _clips(settings, noise),
        tuple(formats),
        settings.run_dir / "samples" if out is None else out,
        initial_latents,
    )
    yield from _run(settings, job)


def replay(sidecar: Path, *, out: Path | None = None) -> Iterator[SampleReport]:
    """Make a clip again from its sidecar: the same bytes, beside it or in `out`.

    Raises LatteError when the sidecar is none, or a file it names has changed.
    """
    from latte_cli.core.sampling import Clip

    try:
        record = json.loads(sidecar.read_text("utf-8"))
        settings = Settings.model_validate(record["settings"])
        checkpoint, name, label = Path(record["checkpoint"]), record["name"], record["class_label"]
        initial, row = record["initial_latents"], record["row"]
        formats, seed, digests = record["formats"], record["seed"], record["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LatteError(f"{sidecar}: is no sidecar that `latte sample` wrote: {error!r}") from error
    for path, digest in digests.items():
        if not Path(path).is_file() or _digest(Path(path)) != digest:
            raise LatteError(f"{sidecar}: {path} is not the file that the clip was made from")
    noise = None if initial is None else _read_noise(Path(initial), settings)[row]
    clip = Clip(seed=seed, class_label=label, initial_latents=noise)
    job = Job(checkpoint, {name: clip}, formats, sidecar.parent if out is None else out, initial)
    yield from _run(settings, job)


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
    from latte_cli.core.diffusion.schedule import make_schedule
    from latte_cli.core.sampling import denoise

    use_device(settings.device)
    sample = settings.sample
    schedule = make_schedule(settings.diffusion, sample.respacing or str(sample.steps))
    denoiser = _denoiser(settings, job.checkpoint)
    decode = None if set(job.formats) == {LATENTS} else _decoder(settings)
    digests = {str(path): _digest(path) for path in (job.checkpoint, job.initial_latents) if path}
    total, pictures = schedule.num_timesteps, []
    for place, (name, clip) in enumerate(job.clips.items()):
        for step in denoise(denoiser, clip, schedule, sample):
            if step.index + 1 < total:
                yield SampleReport(place, len(job.clips), step.index + 1, total)
        latents = step.x_t[0]
        frames = None if decode is None else decode(latents)
        files = [*_write(job, name, latents=latents, frames=frames, fps=sample.fps)]
        record = {
            "latte": __version__,
            "name": name,
            "seed": clip.seed,
            "class_label": clip.class_label,
            "checkpoint": str(job.checkpoint),
            "initial_latents": None if job.initial_latents is None else str(job.initial_latents),
            "row": place,
            "sha256": digests,
            "formats": list(job.formats),
            "files": [path.name for path in files],
            "settings": json.loads(settings.model_dump_json()),
        }
        sidecar = job.out / f"{name}.json"
        write_whole(sidecar, json.dumps(record, indent=2) + "\n")
        if frames is not None:
            pictures.append(frames)
        yield SampleReport(place, len(job.clips), total, total, (*files, sidecar), frames)
    if len(pictures) > 1:
        together = np.stack(pictures)
        files = [job.out / "grid.png", job.out / "grid.mp4"]
        write_png(files[0], contact_sheet(together))
        write_mp4(files[1], grid(together), sample.fps)
        yield SampleReport(len(job.clips) - 1, len(job.clips), total, total, tuple(files))


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


def _write(
    job: Job,
    name: str,
    *,
    latents: NDArray[np.float32],
    frames: NDArray[np.uint8] | None,
    fps: int,
) -> Iterator[Path]:
    """Write a clip in each format; a png is its contact sheet."""
    for wanted in job.formats:
        if wanted == LATENTS:
            path = job.out / f"{name}.npy"
            with whole_file(path) as partial:
                np.save(partial, latents.astype(np.float32))
        elif frames is not None:
            path = job.out / f"{name}.{wanted}"
            if wanted == "mp4":
                write_mp4(path, frames, fps)
            elif wanted == "gif":
                write_gif(path, frames, fps)
            else:
                write_png(path, contact_sheet(frames[None]))
        yield path


def _read_noise(path: Path, settings: Settings) -> NDArray[np.float32]:
    """Noise (N, F, 4, h, w) from a .npy. Raises LatteError when it is none, or of another size."""
    try:
        noise = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise LatteError(f"{path}: cannot be read as a .npy of noise: {error}") from error
    shape = resolve_model(settings)
    wanted = (shape.num_frames, shape.in_channels, shape.sample_size, shape.sample_size)
    if noise.ndim != 5 or noise.shape[1:] != wanted or not len(noise):
        raise LatteError(f"{path}: found noise of shape {noise.shape}, wanted (N, {str(wanted)[1:]}")
    return np.asarray(noise, np.float32)


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
