"""Clips from prompts with a text-to-video pipeline: its text encoder first, then its transformer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.folders import CONFIG
from latte_cli.core.checkpoints.mapping import LazyWeights, map_weights
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.checkpoints.temporal_decoder import CHUNK, open_temporal_decoder
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.pipeline.folder import (
    PipelineFolder,
    check_sizes,
    open_pipeline,
    temporal_scaling_factor,
)
from latte_cli.core.models.vae.memory import check_temporal
from latte_cli.core.rng import Stream, draw
from latte_cli.core.sampling.write import ClipStep
from latte_cli.core.settings.schema import Switch, VaeSettings

if TYPE_CHECKING:
    from latte_cli.core.diffusion.samplers import Model
    from latte_cli.core.sampling.denoise import Denoiser

Array = NDArray[np.float32]
STEPS, GUIDANCE_SCALE = 50, 7.5  # of Latte-1, where nothing else is asked for


@dataclass(frozen=True)
class Prompt:
    """What makes one clip. `initial_latents`, (F, 4, h, w), take the place of the seed's first noise."""

    text: str
    negative: str = ""
    seed: int = 42
    steps: int = STEPS
    guidance_scale: float = GUIDANCE_SCALE
    initial_latents: Array | None = None


Sampler: TypeAlias = "Callable[[Model, Array, Prompt], Iterator[Any]]"
"""(model, noise, prompt) -> a report a step, whose `x_t` are the latents after it."""


@dataclass(frozen=True)
class Job:
    """Clips to make with a pipeline, and how."""

    pipeline: Path | None
    prompts: Sequence[Prompt]
    sampler: str | None = None
    """ddpm, ddim or dpm++; None is the pipeline's own scheduler."""
    num_frames: int | None = None
    """1 makes an image; None is what the transformer was trained on, as for the size."""
    height: int | None = None
    width: int | None = None
    """In pixels."""
    eta: float = 0.0
    dtype: str = "float32"
    """Of the weights in memory."""
    clean_caption: bool = True
    """Whether prompts are cleaned, as the pipeline does."""
    lora: Path | None = None
    decodes: bool = True
    """Whether latents become frames; without it no autoencoder is loaded."""
    chunk_frames: Literal["auto"] | int = "auto"
    """Frames decoded at a time."""
    temporal_decoder: Switch = "auto"
    """Whether a clip's frames are decoded together."""
    device: str = "auto"


def make_clips(job: Job) -> Iterator[ClipStep]:
    """Encode every prompt, then denoise and decode clip by clip, a report a step.

    Every report but those of encoding, of step 0, has the latents after its step. Raises LatteError for what
    a user can fix, before anything slow is loaded where it can be told.
    """
    pipeline = check_job(job)
    weights = _weights(job, pipeline)
    from latte_cli.core.device import use_device

    use_device(job.device)
    sampler = _sampler(job, pipeline)
    conditions, plan = [], tuple(prompt.steps for prompt in job.prompts)
    for place, condition in enumerate(_encode(job, pipeline)):
        conditions.append(condition)
        yield ClipStep(place, 0, plan[place], plan)
    denoiser = _denoiser(job, pipeline, weights)
    decode = _decoder(job, pipeline)
    for place, prompt in enumerate(job.prompts):
        for step in _denoise(prompt, denoiser, conditions[place], sampler):
            done, x_t = step.index + 1, np.asarray(step.x_t[0], np.float32)
            frames = decode(x_t) if done == step.total else None
            yield ClipStep(place, done, step.total, plan, x_t, frames)


def check_job(job: Job) -> PipelineFolder:
    """The pipeline of a job that can be done with it, told from small files and headers.

    Raises LatteError naming the file, setting or option at fault.
    """
    pipeline = open_pipeline(job.pipeline, decodes=job.decodes)
    mapped = map_weights(open_weights(pipeline.transformer, kind="t2v"), "t2v")
    check_sizes(mapped, pipeline.shape, f"that of {pipeline.transformer / CONFIG}")
    wanted = clip_shape(job, pipeline)
    if decoder_of(job, pipeline) == pipeline.temporal_decoder:
        temporal_scaling_factor(pipeline)
        open_temporal_decoder(pipeline.temporal_decoder)
    total = int(pipeline.scheduler.get("num_train_timesteps", 1000))
    if (most := max(_steps(job), default=0)) > total:
        raise LatteError(
            f"sample.steps: found {most}, wanted at most the {total} of the pipeline's scheduler"
        )
    if job.lora is not None:
        if not job.lora.is_file():
            raise LatteError(f"--lora: {job.lora}: no such file")
        open_weights(job.lora)
    for prompt in job.prompts:
        if prompt.initial_latents is not None and prompt.initial_latents.shape != wanted:
            found = prompt.initial_latents.shape
            raise LatteError(f"initial latents: found shape {found}, wanted {wanted} for each prompt")
    return pipeline


def decoder_of(job: Job, pipeline: PipelineFolder) -> Path | None:
    """The folder of what makes frames of latents: the temporal decoder, the autoencoder, or none.

    Raises LatteError when a temporal decoder is asked for and there is none.
    """
    if not job.decodes:
        return None
    found, frames = pipeline.temporal_decoder.is_dir(), clip_shape(job, pipeline)[0]
    if job.temporal_decoder is True and not found:
        raise LatteError(f"sample.temporal_decoder: found on, but no folder {pipeline.temporal_decoder}")
    wanted = frames > 1 if job.temporal_decoder == "auto" else job.temporal_decoder
    return pipeline.temporal_decoder if found and wanted else pipeline.vae


def clip_shape(job: Job, pipeline: PipelineFolder) -> tuple[int, int, int, int]:
    """(F, 4, h, w) of a clip's latents. Raises LatteError for a size that is no whole number of patches."""
    shape = pipeline.shape
    native, unit = shape.sample_size * VAE_FACTOR, VAE_FACTOR * shape.patch_size
    height, width = job.height or native, job.width or native
    for name, side in (("height", height), ("width", width)):
        if side % unit:
            raise LatteError(f"--{name}: found {side}, wanted a multiple of {unit}")
    return job.num_frames or shape.num_frames, shape.in_channels, height // VAE_FACTOR, width // VAE_FACTOR


def _weights(job: Job, pipeline: PipelineFolder) -> Mapping[str, Array]:
    """The transformer's weights, still in their files, with the low-rank changes that the job names."""
    mapped = map_weights(open_weights(pipeline.transformer, kind="t2v"), "t2v")
    weights: Mapping[str, Array] = LazyWeights(mapped)
    if job.lora is None:
        return weights
    from latte_cli.core.models.lora import load_lora, with_lora

    return with_lora(weights, load_lora(job.lora), source=str(job.lora))


def _encode(job: Job, pipeline: PipelineFolder) -> Iterator[tuple[Array, Array]]:
    """Each prompt's packed states and its negative's, (1, N, D + 1) each; every text is encoded once."""
    from latte_cli.core.models.text.encoder import TextEncoder, TextStates, pipeline_states

    texts = list(dict.fromkeys(text for prompt in job.prompts for text in (prompt.text, prompt.negative)))
    encoder = TextEncoder(pipeline.text, dtype=job.dtype, clean_caption=job.clean_caption)
    states = encoder.encode_all(texts)
    known: dict[str, TextStates] = {}
    for prompt in job.prompts:
        while not {prompt.text, prompt.negative} <= known.keys():
            known[texts[len(known)]] = next(states)
        told, untold = pipeline_states(known[prompt.text], known[prompt.negative])
        yield told[None], untold[None]


def _sampler(job: Job, pipeline: PipelineFolder) -> "Sampler":
    """The pipeline's scheduler, or one of our samplers over the same chain, as one kind of function."""
    from latte_cli.core.diffusion.samplers import SAMPLERS
    from latte_cli.core.models.pipeline.scheduler import load_scheduler, schedule_of_config, walk

    source = str(pipeline.path / "scheduler" / "scheduler_config.json")
    if job.sampler is None:
        scheduler = load_scheduler(pipeline.scheduler, source=source)

        def own(model: "Model", x_t: Array, prompt: Prompt) -> Iterator[Any]:
            steps = prompt.steps
            return walk(
                scheduler, model, x_t, steps=steps, generator=partial(_generator, prompt), eta=job.eta
            )

        return own
    sampler = SAMPLERS[job.sampler]
    schedules = {steps: schedule_of_config(pipeline.scheduler, steps, source=source) for steps in _steps(job)}

    def ours(model: "Model", x_t: Array, prompt: Prompt) -> Iterator[Any]:
        def noise(index: int) -> Array:
            return _generator(prompt, index).standard_normal(x_t.shape, np.float32)

        return sampler(model, x_t, schedules[prompt.steps], noise, eta=job.eta)

    return ours


def _steps(job: Job) -> set[int]:
    return {prompt.steps for prompt in job.prompts}


def _generator(prompt: Prompt, index: int) -> np.random.Generator:
    """The random numbers of sampling step `index`, from 0; -1 is the noise that a clip starts from."""
    return draw(prompt.seed, Stream.SAMPLE, 1 + index)


def _denoiser(job: Job, pipeline: PipelineFolder, weights: Mapping[str, Array]) -> "Denoiser":
    import mindspore as ms

    from latte_cli.core.models.latte_t2v.transformer import LatteT2V
    from latte_cli.core.models.weights import load_weights
    from latte_cli.core.sampling.denoise import Denoiser

    # A CPU multiplies in float32 alone at any speed; elsewhere in the type of the weights.
    dtype = "float32" if ms.get_context("device_target") == "CPU" else job.dtype
    frames, _, height, width = clip_shape(job, pipeline)
    model = LatteT2V(pipeline.shape, size=(height, width), num_frames=frames, dtype=dtype, stored=job.dtype)
    load_weights(model, weights, source=str(pipeline.transformer))
    return Denoiser(model)


def _decoder(job: Job, pipeline: PipelineFolder) -> Any:
    """Scaled latents (F, 4, h, w) to frames (F, H, W, 3), or to nothing."""
    if not job.decodes:
        return lambda latents: None
    from latte_cli.core.models.vae.autoencoder import load_vae, to_uint8

    frames, _, height, width = clip_shape(job, pipeline)
    if decoder_of(job, pipeline) == pipeline.temporal_decoder:
        from latte_cli.core.models.vae.temporal import load_temporal_decoder

        factor = temporal_scaling_factor(pipeline)
        temporal = load_temporal_decoder(pipeline.temporal_decoder, scaling_factor=factor)
        widths, together = temporal.decoder.shape.block_out_channels, min(frames, CHUNK)
        check_temporal(widths, together, height * VAE_FACTOR, width * VAE_FACTOR)
        return lambda latents: to_uint8(temporal.decode(latents))
    settings = VaeSettings(
        weights=str(pipeline.vae), scaling_factor=pipeline.scaling_factor, chunk_frames=job.chunk_frames
    )
    vae = load_vae(settings)
    vae.frames_at_once("decoding", height * VAE_FACTOR, width * VAE_FACTOR)
    return lambda latents: to_uint8(vae.decode(latents))


def _denoise(
    prompt: Prompt, denoiser: "Denoiser", condition: tuple[Array, Array], sampler: "Sampler"
) -> Iterator[Any]:
    """A report a step, whose `x_t` is (1, F, 4, h, w); noise depends on the seed and the step alone."""
    from latte_cli.core.diffusion.guidance import guided

    size = (1, *denoiser.clip_shape)
    x_t = _generator(prompt, -1).standard_normal(size, np.float32)
    if prompt.initial_latents is not None:
        x_t = prompt.initial_latents.reshape(size).astype(np.float32)
    return sampler(guided(denoiser, *condition, prompt.guidance_scale), x_t, prompt)
