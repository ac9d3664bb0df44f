"""Make clips from prompts with a text-to-video pipeline, each beside the record that makes it again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.data.captions.prompts import PromptLine, named
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.pipeline.folder import open_pipeline, pipeline_files
from latte_cli.core.parallel.world import World
from latte_cli.core.planning.pipeline import pipeline_plan
from latte_cli.core.planning.plan import Plan
from latte_cli.core.sampling.from_pipeline import (
    GUIDANCE_SCALE,
    STEPS,
    Job,
    Prompt,
    check_job,
    clip_shape,
    decoder_of,
    make_clips,
)
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

IMAGE_FORMATS = ("png",)
# Fields of a Job that a record holds under the same name.
COMMON = (
    "sampler",
    "num_frames",
    "height",
    "width",
    "eta",
    "dtype",
    "chunk_frames",
    "device",
    "clean_caption",
    "temporal_decoder",
)


@dataclass(frozen=True)
class Wish:
    """What is asked for beside the settings; None is the pipeline's own."""

    prompts: Sequence[PromptLine]
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    lora: Path | None = None
    initial_latents: Path | None = None
    """A .npy of noise (N, F, 4, h, w), a clip a row."""
    formats: Sequence[str] | None = None
    out: Path | None = None


def run(settings: Settings, wish: Wish, *, workers: int = 1) -> Iterator[SampleReport]:
    """Sample every prompt, yielding a report a step; files appear whole, clip by clip.

    What the experiment does not set of sampler, steps and guidance is the pipeline's: its own scheduler, and
    Latte-1's numbers. Raises LatteError for what a user can fix.
    """
    settings = resolved(settings, wish)
    job, target = job_of(settings, wish), target_of(settings, wish)
    yield from make_all(_records(job, wish, target), target, _make, workers)


def replay(sidecar: Path, *, out: Path | None = None) -> Iterator[SampleReport]:
    """Make a clip again from its sidecar: the same bytes, beside it or in `out`.

    Raises LatteError when the sidecar is none, or a file it names has changed.
    """
    record, target = _recorded(sidecar, out)
    yield from make_all({record["name"]: record}, target, _make)


def replay_plan(sidecar: Path, *, out: Path | None = None) -> Plan:
    """What `replay` would do. Raises LatteError as it does."""
    record, target = _recorded(sidecar, out)
    return pipeline_plan(_job([record], target), target)


def run_share(settings: Settings, wish: Wish, world: World) -> Iterator[SampleReport]:
    """One worker's share of a run with several."""
    yield from make_share(target_of(settings, wish), _make, world)


def resolved(settings: Settings, wish: Wish) -> Settings:
    """The settings with a pipeline's own numbers where the experiment says none."""
    own: dict[str, Any] = {"sampler": None, "steps": STEPS, "guidance_scale": GUIDANCE_SCALE}
    if wish.initial_latents is None:
        own["num_samples"] = 1
    update = {name: value for name, value in own.items() if name not in settings.sample.model_fields_set}
    return settings.model_copy(update={"sample": settings.sample.model_copy(update=update)})


def target_of(settings: Settings, wish: Wish) -> ClipFiles:
    """Where the clips go: the folder asked for, else samples/ of the run folder, else samples/ here."""
    in_run = settings.run_dir if "run_dir" in settings.model_fields_set else Path()
    formats = wish.formats or (IMAGE_FORMATS if wish.num_frames == 1 else DEFAULT_FORMATS)
    return ClipFiles(wish.out or in_run / "samples", tuple(formats), settings.sample.fps)


def job_of(settings: Settings, wish: Wish) -> Job:
    """What is to be done by `resolved` settings, checked as far as small files and headers tell.

    Raises LatteError naming the file, setting or option at fault.
    """
    sample = settings.sample
    if sample.respacing is not None:
        raise LatteError(
            f"sample.respacing: found {sample.respacing}, wanted null with a pipeline: give sample.steps"
        )
    job = Job(
        pipeline=sample.pipeline,
        prompts=(),
        sampler=sample.sampler,
        num_frames=wish.num_frames,
        height=wish.height,
        width=wish.width,
        eta=sample.eta,
        dtype=sample.dtype,
        clean_caption=settings.text.clean_caption,
        lora=wish.lora,
        decodes=target_of(settings, wish).decodes,
        chunk_frames=settings.vae.chunk_frames,
        temporal_decoder=sample.temporal_decoder,
        device=settings.device,
    )
    shape = clip_shape(job, open_pipeline(sample.pipeline, decodes=job.decodes))
    noise = None if wish.initial_latents is None else read_noise(wish.initial_latents, shape)
    job = replace(job, prompts=_prompts(sample, wish, noise))
    check_job(job)
    return job


def _prompts(sample: SampleSettings, wish: Wish, noise: NDArray[np.float32] | None) -> list[Prompt]:
    """Every prompt as often as there are samples, with seeds one apart."""
    number = sample.num_samples
    if noise is not None and "num_samples" not in sample.model_fields_set:
        number = max(1, len(noise) // len(wish.prompts))
    if noise is not None and len(noise) != number * len(wish.prompts):
        wanted = f"wanted a clip each: {len(wish.prompts)} prompts x {number} samples"
        raise LatteError(f"--initial-latents: {wish.initial_latents}: found noise of {len(noise)}, {wanted}")
    prompts: list[Prompt] = []
    for line in wish.prompts:
        for place in range(number):
            first = sample.seed if line.seed is None else line.seed
            guidance = sample.guidance_scale if line.guidance_scale is None else line.guidance_scale
            steps = line.steps or sample.steps
            row = None if noise is None else noise[len(prompts)]
            prompts.append(Prompt(line.text, sample.negative_prompt, first + place, steps, guidance, row))
    return prompts


def _records(job: Job, wish: Wish, target: ClipFiles) -> dict[str, Record]:
    """What makes each clip, by its name."""
    pipeline = check_job(job)
    decoder = decoder_of(job, pipeline)
    num_frames, _, height, width = clip_shape(job, pipeline)
    common = {
        "pipeline": str(pipeline.path),
        "scheduler": pipeline.scheduler.get("_class_name") if job.sampler is None else None,
        "sampler": job.sampler,
        "eta": job.eta,
        "num_frames": num_frames,
        "height": height * VAE_FACTOR,
        "width": width * VAE_FACTOR,
        "dtype": job.dtype,
        "clean_caption": job.clean_caption,
        "lora": None if job.lora is None else str(job.lora),
        "chunk_frames": job.chunk_frames,
        "temporal_decoder": decoder == pipeline.temporal_decoder,
        "fps": target.fps,
        "device": job.device,
        "initial_latents": None if wish.initial_latents is None else str(wish.initial_latents),
        "sha256": digests([*pipeline_files(pipeline, decoder=decoder), job.lora, wish.initial_latents]),
    }
    records = {}
    for place, prompt in enumerate(job.prompts):
        records[named(place, prompt.seed, prompt.text)] = {
            "prompt": prompt.text,
            "negative_prompt": prompt.negative,
            "seed": prompt.seed,
            "steps": prompt.steps,
            "guidance_scale": prompt.guidance_scale,
            "row": place,
            **common,
        }
    return records


def _recorded(sidecar: Path, out: Path | None) -> tuple[Record, ClipFiles]:
    """The record of a clip, and where it goes."""
    record = read_record(sidecar)
    return record, ClipFiles(out or sidecar.parent, tuple(record["formats"]), record["fps"])


def _make(records: Mapping[str, Record], target: ClipFiles) -> Iterator[ClipStep]:
    """The steps of the clips that records tell. Raises LatteError for noise that is not there."""
    yield from make_clips(_job(list(records.values()), target))


def _job(records: Sequence[Record], target: ClipFiles) -> Job:
    """What makes the clips of records."""
    common = records[0]
    job = Job(
        pipeline=Path(common["pipeline"]),
        prompts=(),
        lora=None if common["lora"] is None else Path(common["lora"]),
        decodes=target.decodes,
        **{name: common[name] for name in COMMON},
    )
    initial: list[NDArray[np.float32] | None] = [None] * len(records)
    if (path := common["initial_latents"]) is not None:
        noise = read_noise(Path(path), clip_shape(job, open_pipeline(job.pipeline, decodes=job.decodes)))
        initial = [noise_row(noise, record["row"], source=Path(path)) for record in records]
    prompts = [_prompt(record, row) for record, row in zip(records, initial, strict=True)]
    return replace(job, prompts=prompts)


def _prompt(record: Record, initial_latents: NDArray[np.float32] | None) -> Prompt:
    return Prompt(
        text=record["prompt"],
        negative=record["negative_prompt"],
        seed=record["seed"],
        steps=record["steps"],
        guidance_scale=record["guidance_scale"],
        initial_latents=initial_latents,
    )
