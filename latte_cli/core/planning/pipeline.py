"""The plan of sampling from a text-to-video pipeline, from its small files and headers."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from latte_cli.core.checkpoints.autoencoder import open_autoencoder
from latte_cli.core.checkpoints.lora import LoraUse
from latte_cli.core.checkpoints.temporal_decoder import CHUNK, open_temporal_decoder
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.latte_t2v.sizes import TextToVideoSizes
from latte_cli.core.models.pipeline.folder import PipelineFolder, pipeline_files
from latte_cli.core.models.vae.memory import check_temporal
from latte_cli.core.planning.autoencoder import add_decoding
from latte_cli.core.planning.cost import forward_flops
from latte_cli.core.planning.pipeline_memory import check_clip_memory, sampling_memory
from latte_cli.core.planning.plan import PROMPTS_SHOWN, Plan
from latte_cli.core.planning.reuse import forward_passes, full_steps_text, guidance_text
from latte_cli.core.planning.room import check_folder, check_memory
from latte_cli.core.planning.timing import (
    DENOISING,
    Part,
    add_time,
    decoding,
    encoding_texts,
    hashing,
    starting,
)
from latte_cli.core.planning.units import bytes_of
from latte_cli.core.sampling.from_pipeline import PipelineGenerator, clip_shape
from latte_cli.core.sampling.spec import PipelineSpec
from latte_cli.core.sampling.write import ClipFiles
from latte_cli.core.storage.hub import name_of


def add_lora(plan: Plan, uses: Sequence[LoraUse]) -> None:
    """Add a row for each file of adapters."""
    for use in uses:
        plan.add("lora", f"{name_of(str(use.path))}, strength {use.strength:g}")


def absent_plan(pipeline: Path, prompts: Sequence[str], target: ClipFiles | None = None) -> Plan:
    """The plan for a pipeline that is not fetched yet."""
    plan = Plan()
    plan.add("pipeline", name_of(str(pipeline)))
    for prompt in prompts[:PROMPTS_SHOWN]:
        plan.add("", prompt or "the empty prompt")
    if target is not None:
        _add_target(plan, target)
    return plan


def _add_target(plan: Plan, target: ClipFiles) -> None:
    plan.add("writes", f"{', '.join(target.formats)} to {target.folder}")
    plan.check(lambda: check_folder("--out", target.folder))


def pipeline_plan(
    generator: PipelineGenerator,
    specs: Sequence[PipelineSpec],
    target: ClipFiles,
    *,
    workers: int = 1,
    reuse: Path | None = None,
) -> Plan:
    """Sizes, memory by stage, time and files of clips that `generator.check` passes.

    reuse: the file with their full steps, if any.
    """
    plan, pipeline, spec = Plan(), generator.pipeline, specs[0]
    frames, _, height, width = clip_shape(pipeline, spec.num_frames, spec.height, spec.width)
    shape, guided = pipeline.shape, any(clip.guidance_scale != 1 for clip in specs)
    decoder = pipeline.temporal_decoder if spec.temporal_decoder else pipeline.vae if target.decodes else None
    plan.add("pipeline", name_of(str(pipeline.path)))
    heads = f"{shape.num_heads} heads, patch {shape.patch_size}"
    plan.add(
        "transformer", f"{shape.hidden_size} wide, {2 * shape.depth} deep, {heads}, weights {spec.dtype}"
    )
    plan.add("parameters", f"{shape.parameters():,}")
    add_lora(plan, spec.lora)
    pixels = (height * VAE_FACTOR, width * VAE_FACTOR)
    plan.add("clips", f"{len(specs)} of {frames} frames of {pixels[0]} x {pixels[1]} pixels")
    for clip in specs[:PROMPTS_SHOWN]:
        guidance = guidance_text(clip.guidance_scale, clip.guidance_every) or ", guidance 1"
        how = f"{clip.steps} steps{guidance}, seed {clip.seed}"
        plan.add("", f"{clip.prompt or 'the empty prompt'}: {how}")
    if len(specs) > PROMPTS_SHOWN:
        plan.add("", f"and {len(specs) - PROMPTS_SHOWN} more")
    plan.add("sampler", spec.sampler or f"the pipeline's {spec.scheduler}")
    evaluations = [pipeline.evaluations(clip.sampler, clip.steps) for clip in specs]
    for steps, full_steps in dict.fromkeys(
        zip(evaluations, (clip.full_steps for clip in specs), strict=True)
    ):
        if full_steps is not None:
            plan.add("full steps", full_steps_text(full_steps, steps, reuse))
    memory_of = partial(
        sampling_memory,
        pipeline,
        guided=guided,
        dtype=spec.dtype,
        device=spec.device,
        texts=len(_texts(specs)),
        chunk_frames=spec.chunk_frames,
        decoder=decoder,
    )
    memory = memory_of(num_frames=frames, size=pixels)
    parts = ", ".join(f"{name.replace('_', ' ')} {bytes_of(size)}" for name, size in memory._asdict().items())
    each = f" per worker, {workers} workers" if workers > 1 else ""
    plan.add("memory", f"at most about {bytes_of(memory.peak)}{each}: {parts}")
    if spec.temporal_decoder and decoder is not None:
        plan.add("decoding", f"{min(frames, CHUNK)} frames together with {decoder}")
        widths = open_temporal_decoder(decoder)[0].block_out_channels
        plan.check(lambda: check_temporal(widths, min(frames, CHUNK), *pixels))
    elif decoder is not None:
        add_decoding(plan, str(decoder), frames=frames, size=pixels, asked=spec.chunk_frames)
    exact = max(memory.text_encoder, memory.transformer + memory.autoencoder)
    plan.check(lambda: check_memory("the pipeline's weights take", exact, spec.device, lower="sample.dtype"))
    plan.check(lambda: check_clip_memory(memory_of, frames, pixels, spec.device))
    passes = sum(
        forward_passes(
            steps,
            clip.full_steps,
            guided=clip.guidance_scale != 1,
            guidance_every=clip.guidance_every,
        )
        for steps, clip in zip(evaluations, specs, strict=True)
    )
    others = partial(_others, pipeline, specs, decoder, frames=frames, size=pixels)
    add_time(plan, passes, pass_flops(pipeline, spec), "pass", share=DENOISING, others=others)
    _add_target(plan, target)
    return plan


def _texts(specs: Sequence[PipelineSpec]) -> set[str]:
    """The texts to encode, each once."""
    return {text for clip in specs for text in (clip.prompt, clip.negative_prompt)}


def _others(
    pipeline: PipelineFolder,
    specs: Sequence[PipelineSpec],
    decoder: Path | None,
    *,
    frames: int,
    size: tuple[int, int],
) -> tuple[Part, ...]:
    """The parts of sampling that are not passes through the transformer."""
    parts = (
        starting(pipeline.shape.parameters()),
        *hashing(pipeline_files(pipeline, decoder=decoder)),
        *encoding_texts(pipeline.text, len(_texts(specs))),
    )
    if decoder is None:
        return parts
    if decoder == pipeline.vae:
        shapes = open_autoencoder(str(decoder)).shapes
    else:
        shapes = open_temporal_decoder(decoder)[1].shapes()
    return (*parts, decoding(shapes, len(specs) * frames, size))


def pass_flops(pipeline: PipelineFolder, spec: PipelineSpec) -> int:
    """Operations of one forward pass of a clip, of one branch of guidance."""
    frames, _, height, width = clip_shape(pipeline, spec.num_frames, spec.height, spec.width)
    sizes = TextToVideoSizes(replace(pipeline.shape, num_frames=frames), 0)
    return forward_flops(sizes, tokens=height * width // pipeline.shape.patch_size**2)
