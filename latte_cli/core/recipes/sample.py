"""Make clips from a checkpoint: files a person can watch, and beside each what made it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.autoencoder import DEMO, find_autoencoder
from latte_cli.core.checkpoints.runs import newest_checkpoint
from latte_cli.core.data.captions.prompts import PromptLine
from latte_cli.core.diffusion.schedule import Schedule, make_schedule
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architectures import sizes_of
from latte_cli.core.models.conditions.encoder import text_folder
from latte_cli.core.models.text.folder import text_files
from latte_cli.core.parallel.world import World
from latte_cli.core.planning.plan import Plan, sample_plan
from latte_cli.core.sampling.runs import checkpoint_files, told_clips, untold_clips
from latte_cli.core.sampling.sidecar import Record, read_record
from latte_cli.core.sampling.workers import make_all, make_share
from latte_cli.core.sampling.write import (
    DEFAULT_FORMATS,
    ClipFiles,
    ClipStep,
    SampleReport,
    digests,
    noise_row,
    read_noise,
)
from latte_cli.core.settings.schema import SampleSettings, Settings


def run(
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    out: Path | None = None,
    initial_latents: Path | None = None,
    prompts: Sequence[PromptLine] = (),
    workers: int = 1,
) -> Iterator[SampleReport]:
    """Sample, yielding a report a step; files appear whole, clip by clip, in `out` or the run's samples/.

    checkpoint: weights of any format; else the run folder's newest, whose averaged weights are used.
    initial_latents: a .npy of noise (N, F, 4, h, w), a clip a row. prompts: what clips show, for condition:
    text. workers: processes that share the clips. Raises LatteError for what a user can fix.
    """
    path = newest_checkpoint(settings) if checkpoint is None else checkpoint
    target = target_of(settings, formats, out)
    records = _records(settings, path, prompts, initial_latents=initial_latents, decodes=target.decodes)
    yield from make_all(records, target, _make, workers)


def replay(sidecar: Path, *, out: Path | None = None) -> Iterator[SampleReport]:
    """Make a clip again from its sidecar: the same bytes, beside it or in `out`.

    Raises LatteError when the sidecar is none, or a file it names has changed.
    """
    record, target = _recorded(sidecar, out)
    yield from make_all({record["name"]: record}, target, _make)


def replay_plan(sidecar: Path, *, out: Path | None = None) -> Plan:
    """What `replay` would do. Raises LatteError as it does."""
    record, target = _recorded(sidecar, out)
    settings = Settings.model_validate(record["settings"])
    update = {"num_samples": 1, "seed": record["seed"]}
    settings = settings.model_copy(update={"sample": settings.sample.model_copy(update=update)})
    prompts = [PromptLine(record["prompt"], steps=record["steps"])] if "prompt" in record else []
    checkpoint = Path(record["checkpoint"])
    return sample_plan(
        settings, checkpoint=checkpoint, decodes=target.decodes, prompts=prompts, out=target.folder
    )


def run_share(
    settings: Settings, world: World, *, formats: Sequence[str] = DEFAULT_FORMATS, out: Path | None = None
) -> Iterator[SampleReport]:
    """One worker's share of a run with several."""
    yield from make_share(target_of(settings, formats, out), _make, world)


def target_of(settings: Settings, formats: Sequence[str], out: Path | None) -> ClipFiles:
    """Where the clips go."""
    return ClipFiles(out or settings.run_dir / "samples", tuple(formats), settings.sample.fps)


def _records(
    settings: Settings,
    checkpoint: Path,
    prompts: Sequence[PromptLine],
    *,
    initial_latents: Path | None,
    decodes: bool,
) -> dict[str, Record]:
    """What makes each clip, by its name."""
    noise = None if initial_latents is None else read_noise(initial_latents, _clip_shape(settings))
    files = [*checkpoint_files(settings, checkpoint), initial_latents]
    files += _vae_files(settings) if decodes else []
    if prompts:
        clips = _told(settings, prompts, None if noise is None else len(noise))
        files += text_files(text_folder(settings))
    else:
        number = settings.sample.num_samples if noise is None else len(noise)
        clips = {
            name: {"seed": seed, "class_label": label} for name, seed, label in untold_clips(settings, number)
        }
    common = {
        "checkpoint": str(checkpoint),
        "initial_latents": None if initial_latents is None else str(initial_latents),
        "sha256": digests(files),
        "settings": settings.model_dump(mode="json"),
    }
    return {name: {**clip, "row": place, **common} for place, (name, clip) in enumerate(clips.items())}


def _recorded(sidecar: Path, out: Path | None) -> tuple[Record, ClipFiles]:
    """The record of a clip, and where it goes."""
    record = read_record(sidecar)
    fps = Settings.model_validate(record["settings"]).sample.fps
    return record, ClipFiles(out or sidecar.parent, tuple(record["formats"]), fps)


def _vae_files(settings: Settings) -> list[Path]:
    """The autoencoder's files, but for the package's own."""
    if settings.vae.weights == DEMO:
        return []
    files = find_autoencoder(settings.vae.weights)
    return [*files.every_weight] if files.config is None else [*files.every_weight, files.config]


def _told(settings: Settings, prompts: Sequence[PromptLine], rows: int | None) -> dict[str, Record]:
    """What is special to each clip, by its name. Raises LatteError for noise of another number."""
    sample = settings.sample
    number = sample.num_samples if rows is None else rows // len(prompts)
    if rows is not None and rows != number * len(prompts):
        raise LatteError(
            f"--initial-latents: found noise of {rows}, wanted as many for each of {len(prompts)} prompts"
        )
    return {
        name: {
            "seed": seed,
            "class_label": None,
            "prompt": line.text,
            "negative_prompt": sample.negative_prompt,
            "steps": line.steps,
            "guidance_scale": line.guidance_scale,
        }
        for name, seed, line in told_clips(settings, prompts, number)
    }


def _make(records: Mapping[str, Record], target: ClipFiles) -> Iterator[ClipStep]:
    """Denoise and decode the clips that records tell. Raises LatteError for noise that is not there."""
    common = next(iter(records.values()))
    settings, checkpoint = Settings.model_validate(common["settings"]), Path(common["checkpoint"])
    initial: list[NDArray[np.float32] | None] = [None] * len(records)
    if (path := common["initial_latents"]) is not None:
        noise = read_noise(Path(path), _clip_shape(settings))
        initial = [noise_row(noise, record["row"], source=Path(path)) for record in records.values()]
    walks = [_walk(settings, record) for record in records.values()]
    texts = [
        (record["prompt"], record["negative_prompt"]) for record in records.values() if "prompt" in record
    ]
    clips = [(record["seed"], record["class_label"]) for record in records.values()]
    from latte_cli.core.device import use_device
    from latte_cli.core.sampling.denoise import Clip, Denoiser, denoise
    from latte_cli.core.sampling.from_run import encode_prompts, load_trained

    use_device(settings.device)
    told = encode_prompts(settings, texts)
    denoiser = Denoiser(load_trained(settings, checkpoint))
    decode = _decoder(settings) if target.decodes else None
    plan = tuple(schedule.num_timesteps for _, schedule in walks)
    for place, ((seed, label), (sample, schedule)) in enumerate(zip(clips, walks, strict=True)):
        clip = Clip(seed, label, initial[place], told[place] if told else None)
        for step in denoise(denoiser, clip, schedule, sample):
            done, latents = step.index + 1, np.asarray(step.x_t[0], np.float32)
            frames = decode(latents) if decode and done == plan[place] else None
            yield ClipStep(place, done, plan[place], plan, latents, frames)


def _walk(settings: Settings, record: Record) -> tuple[SampleSettings, Schedule]:
    """How a clip is sampled, as the settings say or its line of a file of prompts, and the steps of that."""
    update = {name: record[name] for name in ("steps", "guidance_scale") if record.get(name) is not None}
    if "steps" in update:
        update["respacing"] = None
    sample = settings.sample.model_copy(update=update)
    return sample, make_schedule(settings.diffusion, sample.respacing or str(sample.steps))


def _decoder(settings: Settings) -> Callable[[NDArray[np.float32]], NDArray[np.uint8]]:
    """Scaled latents (F, 4, h, w) to frames (F, H, W, 3)."""
    from latte_cli.core.models.vae.autoencoder import load_vae, to_uint8

    vae, side = load_vae(settings.vae), settings.data.image_size
    vae.frames_at_once("decoding", side, side)
    return lambda latents: to_uint8(vae.decode(latents))


def _clip_shape(settings: Settings) -> tuple[int, ...]:
    """(F, 4, h, w) of a clip's latents."""
    sizes = sizes_of(settings)
    return (sizes.num_frames, sizes.in_channels, sizes.sample_size, sizes.sample_size)
