"""Clips of a text-to-video pipeline: specs from prompts, and the generator."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Array
from latte_cli.core.checkpoints.adapters import WithAdapters, check_fit, read_adapters
from latte_cli.core.checkpoints.folders import CONFIG
from latte_cli.core.checkpoints.lora import lora_files
from latte_cli.core.checkpoints.mapping import LazyWeights, map_weights
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.checkpoints.temporal_decoder import open_temporal_decoder
from latte_cli.core.data.captions.prompts import named
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.pipeline.folder import (
    PipelineFolder,
    check_sizes,
    open_pipeline,
    pipeline_files,
    temporal_scaling_factor,
)
from latte_cli.core.sampling.calibration import (
    check_weights,
    full_steps_of,
    pipeline_setup,
    pipeline_weights,
    reuse_file,
)
from latte_cli.core.sampling.generator import ClipStep, clip_steps
from latte_cli.core.sampling.noise import initial_latents, read_noise
from latte_cli.core.sampling.spec import ClipSpec, PipelineSpec, Request
from latte_cli.core.sampling.write import ClipFiles, digests
from latte_cli.core.settings.schema import SampleSettings, Settings, VaeSettings
from latte_cli.core.settings.section import Switch
from latte_cli.core.storage.json_files import check_json

if TYPE_CHECKING:
    from latte_cli.core.sampling.denoise import Condition, Denoiser, Trajectory

STEPS, GUIDANCE_SCALE = 50, 7.5  # defaults of Latte-1


def with_pipeline_defaults(settings: Settings, request: Request) -> Settings:
    """The settings with a pipeline's defaults where the experiment sets none."""
    sample = settings.sample
    own: dict[str, Any] = {"sampler": None, "steps": STEPS, "guidance_scale": GUIDANCE_SCALE}
    if request.initial_latents is None:
        own["num_samples"] = 1
    update = {name: value for name, value in own.items() if name not in sample.model_fields_set}
    given = sample.model_dump(include=sample.model_fields_set)
    return settings.model_copy(update={"sample": SampleSettings.model_validate(given | update)})


def pipeline_specs(
    settings: Settings, request: Request, target: ClipFiles, pipeline: PipelineFolder
) -> list[PipelineSpec]:
    """The specs of the requested clips: sample.num_samples per prompt, with consecutive seeds.

    settings: from `with_pipeline_defaults`. The files' digests are added later by `with_digests`. Raises
    LatteError naming the invalid setting or option.
    """
    sample, path, lines = settings.sample, request.initial_latents, request.prompts
    if sample.respacing is not None:
        raise LatteError(
            f"sample.respacing: found {sample.respacing}, expected null with a pipeline: give sample.steps"
        )
    shape = clip_shape(pipeline, request.num_frames, request.height, request.width)
    number = sample.num_samples
    if path is not None:
        rows = len(read_noise(path, shape))
        if "num_samples" not in sample.model_fields_set:
            number = max(1, rows // len(lines))
        if rows != number * len(lines):
            expected = f"expected one per clip: {len(lines)} prompts x {number} samples"
            raise LatteError(f"--initial-latents: {path}: found noise of {rows}, {expected}")
    lora_files(request.lora)
    decoder = decoder_of(pipeline, sample.temporal_decoder, frames=shape[0]) if target.decodes else None
    pipeline_files(pipeline, decoder=decoder)  # reports missing weights before any is read
    clips = [(line, further) for line in lines for further in range(number)]
    reuse = reuse_file(sample, pipeline.path)
    specs = []
    for row, (line, further) in enumerate(clips):
        seed = (sample.seed if line.seed is None else line.seed) + further
        content: dict[str, Any] = {
            "name": named(row, seed, line.text),
            "seed": seed,
            "row": row,
            "prompt": line.text,
            "negative_prompt": sample.negative_prompt,
            "initial_latents": path,
            "sha256": {},
            "formats": target.formats,
            "steps": line.steps or sample.steps,
            "guidance_scale": sample.guidance_scale if line.guidance_scale is None else line.guidance_scale,
            "guidance_every": sample.guidance_every,
            "pipeline": pipeline.path,
            "scheduler": None if sample.sampler else pipeline.scheduler.get("_class_name"),
            "sampler": sample.sampler,
            "eta": sample.eta,
            "num_frames": shape[0],
            "height": shape[2] * VAE_FACTOR,
            "width": shape[3] * VAE_FACTOR,
            "dtype": sample.dtype,
            "clean_caption": settings.text.clean_caption,
            "lora": tuple(request.lora),
            "chunk_frames": settings.vae.chunk_frames,
            "temporal_decoder": decoder == pipeline.temporal_decoder,
            "fps": target.fps,
            "device": settings.device,
        }
        spec = check_json(content, PipelineSpec, source="sample")
        full_steps = full_steps_of(sample, pipeline_setup(pipeline, spec), reuse)
        specs.append(spec.model_copy(update={"full_steps": full_steps}))
    return specs


def with_digests(
    specs: Sequence[PipelineSpec], pipeline: PipelineFolder, *, decodes: bool, reuse: Path | None = None
) -> list[PipelineSpec]:
    """The specs with the digests of their files, which are read completely; plans do not need them.

    reuse: the file that chose their full steps. Raises LatteError if it is of other weights.
    """
    spec = specs[0]
    decoder = (pipeline.temporal_decoder if spec.temporal_decoder else pipeline.vae) if decodes else None
    files = [*pipeline_files(pipeline, decoder=decoder), *lora_files(spec.lora), spec.initial_latents]
    sha256 = digests(files)
    made = [clip.model_copy(update={"sha256": sha256}) for clip in specs]
    if any(clip.full_steps is not None for clip in made):
        check_weights(reuse, pipeline_weights(pipeline, made[0]))
    return made


def clip_shape(
    pipeline: PipelineFolder, num_frames: int | None, height: int | None, width: int | None
) -> tuple[int, int, int, int]:
    """(F, 4, h, w) of a clip's latents; sizes in pixels, by default those of training.

    Raises LatteError for a size that is not a multiple of the patch size.
    """
    shape = pipeline.shape
    native, unit = shape.sample_size * VAE_FACTOR, VAE_FACTOR * shape.patch_size
    height, width = height or native, width or native
    for name, side in (("height", height), ("width", width)):
        if side % unit:
            raise LatteError(f"--{name}: found {side}, expected a multiple of {unit}")
    return num_frames or shape.num_frames, shape.in_channels, height // VAE_FACTOR, width // VAE_FACTOR


def decoder_of(pipeline: PipelineFolder, temporal: Switch, *, frames: int) -> Path:
    """The folder of the decoder: the temporal decoder or the autoencoder.

    temporal: sample.temporal_decoder; auto selects it for more than one frame if it exists. Raises LatteError
    if it is requested and missing.
    """
    found = pipeline.temporal_decoder.is_dir()
    if temporal is True and not found:
        raise LatteError(f"sample.temporal_decoder: found on, but no folder {pipeline.temporal_decoder}")
    requested = frames > 1 if temporal == "auto" else temporal
    return pipeline.temporal_decoder if found and requested else pipeline.vae


class PipelineGenerator:
    """Generates clips with a pipeline: text encoder, then transformer, then autoencoder."""

    def __init__(self, pipeline: PipelineFolder):
        self.pipeline = pipeline

    def check(self, specs: Sequence[PipelineSpec]) -> None:
        """Raise LatteError for clips that cannot be made; reads only small files and headers."""
        pipeline, spec = self.pipeline, specs[0]
        mapped = map_weights(open_weights(pipeline.transformer, kind="t2v"), "t2v")
        check_sizes(mapped, pipeline.shape, f"that of {pipeline.transformer / CONFIG}")
        clip_shape(pipeline, spec.num_frames, spec.height, spec.width)
        if spec.temporal_decoder:
            temporal_scaling_factor(pipeline)
            open_temporal_decoder(pipeline.temporal_decoder)
        total = int(pipeline.scheduler.get("num_train_timesteps", 1000))
        most = max(clip.steps for clip in specs)
        if most > total:
            raise LatteError(
                f"sample.steps: found {most}, expected at most the {total} of the pipeline's scheduler"
            )
        check_fit({name: tensor.shape for name, tensor in mapped.tensors.items()}, read_adapters(spec.lora))

    def generate(self, specs: Sequence[ClipSpec], *, decodes: bool) -> Iterator[ClipStep]:
        """See `Generator`. The specs are `PipelineSpec`s accepted by `check`."""
        clips = [spec for spec in specs if isinstance(spec, PipelineSpec)]
        conditions: list[Condition] = []
        make, plan = (
            self._maker(clips),
            tuple(self.pipeline.evaluations(clip.sampler, clip.steps) for clip in clips),
        )
        for place, condition in enumerate(self._encode(clips)):
            conditions.append(condition)
            yield ClipStep(place, 0, plan[place], plan)
        trajectories, decode = make(conditions), self._decoder(clips[0]) if decodes else None
        for place, clip in enumerate(trajectories):
            yield from clip_steps(clip.denoise(), decode, clip=place, plan=plan)

    def trajectories(self, specs: Sequence[ClipSpec]) -> "list[Trajectory]":
        """See `Generator`."""
        clips = [spec for spec in specs if isinstance(spec, PipelineSpec)]
        return self._maker(clips)(list(self._encode(clips)))

    def _maker(self, clips: Sequence[PipelineSpec]) -> "Callable[[Sequence[Condition]], list[Trajectory]]":
        """Return the function from the clips' conditions to trajectories; check the rest first."""
        common = clips[0]
        shape = clip_shape(self.pipeline, common.num_frames, common.height, common.width)
        initial, weights = initial_latents(clips, shape), self._weights(common)
        from latte_cli.core.machine.device import use_device
        from latte_cli.core.sampling.denoise import Trajectory, pipeline_walk

        use_device(common.device)
        walks = {
            steps: pipeline_walk(self.pipeline, steps, sampler=common.sampler, eta=common.eta)
            for steps in {clip.steps for clip in clips}
        }

        def make(conditions: "Sequence[Condition]") -> "list[Trajectory]":
            denoiser = self._denoiser(common, weights)
            return [
                Trajectory(
                    denoiser=denoiser,
                    walk=walks[clip.steps],
                    evaluations=self.pipeline.evaluations(clip.sampler, clip.steps),
                    condition=condition,
                    seed=clip.seed,
                    guidance_scale=clip.guidance_scale,
                    guidance_every=clip.guidance_every,
                    full_steps=clip.full_steps,
                    initial_latents=noise,
                )
                for clip, condition, noise in zip(clips, conditions, initial, strict=True)
            ]

        return make

    def _weights(self, spec: PipelineSpec) -> Mapping[str, Array]:
        """The transformer's weights, still in their files, with the adapters that the spec names."""
        mapped = map_weights(open_weights(self.pipeline.transformer, kind="t2v"), "t2v")
        return WithAdapters(LazyWeights(mapped), read_adapters(spec.lora))

    def _encode(self, clips: Sequence[PipelineSpec]) -> "Iterator[Condition]":
        """The packed states of each prompt and its negative, (1, N, D + 1) each; texts are encoded once."""
        from latte_cli.core.models.text.encoder import TextEncoder, TextStates, pipeline_states

        texts = list(dict.fromkeys(text for clip in clips for text in (clip.prompt, clip.negative_prompt)))
        encoder = TextEncoder(self.pipeline.text, dtype=clips[0].dtype, clean_caption=clips[0].clean_caption)
        states = encoder.encode_all(texts)
        known: dict[str, TextStates] = {}
        for clip in clips:
            while not {clip.prompt, clip.negative_prompt} <= known.keys():
                known[texts[len(known)]] = next(states)
            conditional, unconditional = pipeline_states(known[clip.prompt], known[clip.negative_prompt])
            yield conditional[None], unconditional[None]

    def _denoiser(self, spec: PipelineSpec, weights: Mapping[str, Array]) -> "Denoiser":
        from latte_cli.core.machine.device import device_in_use, has_flash_attention
        from latte_cli.core.models.latte_t2v.architecture import make_transformer
        from latte_cli.core.models.weights import load_weights
        from latte_cli.core.sampling.denoise import Denoiser

        # On a CPU only float32 products are fast; elsewhere the weights' type is used.
        device = device_in_use()
        dtype = "float32" if device == "cpu" else spec.dtype
        size = (spec.height // VAE_FACTOR, spec.width // VAE_FACTOR)
        model = make_transformer(
            self.pipeline.shape, size=size, num_frames=spec.num_frames, dtype=dtype, stored=spec.dtype
        )
        load_weights(model, weights, source=str(self.pipeline.transformer))
        if has_flash_attention(dtype, device):
            model.use_flash_attention()
        return Denoiser(model)

    def _decoder(self, spec: PipelineSpec) -> Callable[[Array], NDArray[np.uint8]]:
        from latte_cli.core.sampling.decoding import load_decoder, load_temporal

        if spec.temporal_decoder:
            factor = temporal_scaling_factor(self.pipeline)
            return load_temporal(
                self.pipeline.temporal_decoder, factor, (spec.num_frames, spec.height, spec.width)
            )
        settings = VaeSettings(
            weights=str(self.pipeline.vae),
            scaling_factor=self.pipeline.scaling_factor,
            chunk_frames=spec.chunk_frames,
        )
        return load_decoder(settings, spec.height, spec.width)


def generator_of(spec: PipelineSpec, *, decodes: bool) -> PipelineGenerator:
    """The generator for a clip's pipeline. Raises LatteError like `open_pipeline`."""
    return PipelineGenerator(open_pipeline(spec.pipeline, decodes=decodes))
