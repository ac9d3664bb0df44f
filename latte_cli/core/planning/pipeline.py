"""What sampling from a text-to-video pipeline would do, told from its small files and headers."""

from dataclasses import replace

from latte_cli.core.checkpoints.temporal_decoder import CHUNK, open_temporal_decoder
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.latte_t2v.sizes import TextToVideoSizes
from latte_cli.core.models.pipeline.folder import pipeline_files
from latte_cli.core.models.vae.memory import check_temporal
from latte_cli.core.planning.cost import FLOAT32, forward_flops
from latte_cli.core.planning.decoding import add_decoding
from latte_cli.core.planning.pipeline_memory import sampling_memory
from latte_cli.core.planning.plan import PROMPTS_SHOWN, Plan, add_time
from latte_cli.core.planning.room import check_folder, check_memory
from latte_cli.core.planning.units import bytes_of
from latte_cli.core.sampling.from_pipeline import Job, check_job, clip_shape, decoder_of
from latte_cli.core.sampling.write import ClipFiles


def pipeline_plan(job: Job, target: ClipFiles, *, workers: int = 1) -> Plan:
    """Sizes, memory by stage, time and files of a job.

    Raises LatteError naming the file, setting or option at fault.
    """
    plan, pipeline = Plan(), check_job(job)
    decoder = decoder_of(job, pipeline)
    pipeline_files(pipeline, decoder=decoder)
    frames, _, height, width = clip_shape(job, pipeline)
    shape, guided = pipeline.shape, any(prompt.guidance_scale != 1 for prompt in job.prompts)
    plan.add("pipeline", str(pipeline.path))
    heads = f"{shape.num_heads} heads, patch {shape.patch_size}"
    plan.add("transformer", f"{shape.hidden_size} wide, {2 * shape.depth} deep, {heads}, weights {job.dtype}")
    plan.add("parameters", f"{shape.parameters():,}")
    if job.lora is not None:
        plan.add("lora", str(job.lora))
    pixels = (height * VAE_FACTOR, width * VAE_FACTOR)
    plan.add("clips", f"{len(job.prompts)} of {frames} frames of {pixels[0]} x {pixels[1]} pixels")
    for prompt in job.prompts[:PROMPTS_SHOWN]:
        steps = f"{prompt.steps} steps, guidance {prompt.guidance_scale:g}, seed {prompt.seed}"
        plan.add("", f"{prompt.text or 'the empty prompt'}: {steps}")
    if len(job.prompts) > PROMPTS_SHOWN:
        plan.add("", f"and {len(job.prompts) - PROMPTS_SHOWN} more")
    plan.add("sampler", job.sampler or f"the pipeline's {pipeline.scheduler.get('_class_name')}")
    memory = sampling_memory(
        pipeline,
        num_frames=frames,
        size=pixels,
        guided=guided,
        dtype=job.dtype,
        texts=len({text for prompt in job.prompts for text in (prompt.text, prompt.negative)}),
        chunk_frames=job.chunk_frames,
        decoder=decoder,
    )
    parts = ", ".join(f"{name.replace('_', ' ')} {bytes_of(size)}" for name, size in memory._asdict().items())
    each = f" a worker, {workers} workers" if workers > 1 else ""
    plan.add("memory", f"about {bytes_of(memory.peak)} at most{each}: {parts}")
    if decoder == pipeline.temporal_decoder:
        plan.add("decoding", f"{min(frames, CHUNK)} frames together by {decoder}")
        widths = open_temporal_decoder(decoder)[0].block_out_channels
        plan.check(lambda: check_temporal(widths, min(frames, CHUNK), *pixels))
    elif job.decodes:
        add_decoding(plan, str(pipeline.vae), frames=frames, size=pixels, asked=job.chunk_frames)
    exact = max(memory.text_encoder, memory.transformer + memory.autoencoder)
    plan.check(lambda: check_memory("the pipeline's weights take", exact, job.device, lower="sample.dtype"))
    sizes = TextToVideoSizes(replace(shape, num_frames=frames), 0)
    tokens = height * width // shape.patch_size**2
    least = exact + 3 * FLOAT32 * frames * tokens * shape.hidden_size
    lower = "--num-frames, --height or --width"
    plan.check(lambda: check_memory(f"a clip of {frames} frames takes", least, job.device, lower=lower))
    passes = sum((2 if prompt.guidance_scale != 1 else 1) * prompt.steps for prompt in job.prompts)
    add_time(plan, passes, forward_flops(sizes, tokens=tokens), "pass")
    plan.add("writes", f"{', '.join(target.formats)} to {target.folder}")
    plan.check(lambda: check_folder("--out", target.folder))
    return plan
