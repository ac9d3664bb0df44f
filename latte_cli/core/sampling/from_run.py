"""Clips of a run: specs from its settings, and the generator."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latte_cli.core.checkpoints.adapters import WithAdapters, read_adapters
from latte_cli.core.checkpoints.autoencoder import DEMO, find_autoencoder
from latte_cli.core.checkpoints.lora import LoraUse, lora_files
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.checkpoints.runs import RunBase, base_weights, digest_of, holds_lora, lora_file, read_run
from latte_cli.core.data.captions.prompts import PromptLine, named
from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architecture import Architecture, Transformer
from latte_cli.core.models.architectures import architecture_of, sizes_of
from latte_cli.core.models.conditions.encoder import text_folder
from latte_cli.core.models.text.folder import text_files
from latte_cli.core.sampling.calibration import check_weights, full_steps_of, reuse_file, run_setup
from latte_cli.core.sampling.generator import ClipStep, clip_steps
from latte_cli.core.sampling.noise import initial_latents, read_noise
from latte_cli.core.sampling.spec import ClipSpec, Request, RunSpec, adapter_digests
from latte_cli.core.sampling.write import ClipFiles, digests
from latte_cli.core.settings.schema import SampleSettings, Settings
from latte_cli.core.storage.json_files import check_json

if TYPE_CHECKING:
    from latte_cli.core.sampling.denoise import Condition, Trajectory, Walk


@dataclass(frozen=True)
class RunClip:
    """The values that differ between the clips of a run."""

    name: str
    seed: int
    class_label: int | None = None
    line: PromptLine | None = None


def run_clips(settings: Settings, prompts: Sequence[PromptLine], number: int) -> Iterator[RunClip]:
    """`number` clips per prompt, or without prompts. Seeds are consecutive; class labels are cycled."""
    sample, labels = settings.sample, settings.sample.class_labels or range(settings.model.num_classes or 0)
    for first, line in enumerate(prompts):
        for further in range(number):
            seed = (sample.seed if line.seed is None else line.seed) + further
            yield RunClip(named(first * number + further, seed, line.text), seed, line=line)
    for place in range(0 if prompts else number):
        seed, label = sample.seed + place, labels[place % len(labels)] if labels else None
        name = f"{place:03d}-seed{seed}" + ("" if label is None else f"-class{label}")
        yield RunClip(name, seed, label)


def run_specs(settings: Settings, checkpoint: Path, request: Request, target: ClipFiles) -> list[RunSpec]:
    """The specs of the requested clips. Raises LatteError for missing or invalid files."""
    path, prompts = request.initial_latents, request.prompts
    number, groups = settings.sample.num_samples, max(1, len(prompts))
    files = [*checkpoint_files(settings, checkpoint), *lora_files(request.lora), path]
    if path is not None:
        rows = len(read_noise(path, clip_shape(settings)))
        number = rows // groups
        if rows != number * groups:
            raise LatteError(
                f"--initial-latents: found noise of {rows}, expected as many for each of {groups} prompts"
            )
    if target.decodes:
        files += _vae_files(settings)
    if prompts:
        files += text_files(text_folder(settings))
    sha256 = digests(files)
    reuse = reuse_file(settings.sample, settings.run_dir)
    specs = []
    for row, clip in enumerate(run_clips(settings, prompts, number)):
        content = {
            "name": clip.name,
            "seed": clip.seed,
            "row": row,
            "prompt": None if clip.line is None else clip.line.text,
            "negative_prompt": None if clip.line is None else settings.sample.negative_prompt,
            "lora": tuple(request.lora),
            "initial_latents": path,
            "sha256": sha256,
            "formats": target.formats,
            "class_label": clip.class_label,
            "steps": None if clip.line is None else clip.line.steps,
            "guidance_scale": None if clip.line is None else clip.line.guidance_scale,
            "checkpoint": checkpoint,
            "settings": settings,
        }
        spec = check_json(content, RunSpec, source="sample")
        sample = spec.sample_settings()
        full_steps = full_steps_of(sample, run_setup(settings, sample), reuse)
        specs.append(spec.model_copy(update={"full_steps": full_steps}))
    if any(spec.full_steps is not None for spec in specs):
        check_weights(reuse, run_weights(specs[0]))
    return specs


def run_weights(spec: RunSpec) -> tuple[str, ...]:
    """The digests of the transformer's weights files and of the adapters added to them."""
    own = [spec.sha256[str(file)] for file in checkpoint_files(spec.settings, spec.checkpoint)]
    return (*own, *adapter_digests(spec))


class RunGenerator:
    """Generates clips with a checkpoint's averaged weights."""

    def generate(self, specs: Sequence[ClipSpec], *, decodes: bool) -> Iterator[ClipStep]:
        """See `Generator`. The specs are `RunSpec`s of one checkpoint."""
        clips = self.trajectories(specs)
        plan = tuple(clip.evaluations for clip in clips)
        from latte_cli.core.sampling.decoding import load_decoder

        decode = None
        if decodes and isinstance(spec := specs[0], RunSpec):
            side = spec.settings.data.image_size
            decode = load_decoder(spec.settings.vae, side, side)
        for place, clip in enumerate(clips):
            yield from clip_steps(clip.denoise(), decode, clip=place, plan=plan)

    def trajectories(self, specs: Sequence[ClipSpec]) -> "list[Trajectory]":
        """See `Generator`."""
        clips = [spec for spec in specs if isinstance(spec, RunSpec)]
        settings, checkpoint = clips[0].settings, clips[0].checkpoint
        initial = initial_latents(clips, clip_shape(settings))
        from latte_cli.core.machine.device import use_device
        from latte_cli.core.sampling.denoise import Denoiser, Trajectory, class_condition

        samples = [clip.sample_settings() for clip in clips]
        walks = [walk_of(settings, sample) for sample in samples]
        use_device(settings.device)
        conditions = encode_prompts(
            settings, [(clip.prompt, clip.negative_prompt or "") for clip in clips if clip.prompt is not None]
        )
        denoiser = Denoiser(load_trained(settings, checkpoint, clips[0].lora))
        classes = denoiser.num_classes
        return [
            Trajectory(
                denoiser=denoiser,
                walk=walk,
                evaluations=evaluations,
                condition=conditions[place] if conditions else class_condition(clip.class_label, classes),
                seed=clip.seed,
                guidance_scale=guidance_of(sample, conditional=bool(conditions) or classes is not None),
                guidance_every=sample.guidance_every,
                full_steps=clip.full_steps,
                initial_latents=initial[place],
            )
            for place, (clip, sample, (evaluations, walk)) in enumerate(
                zip(clips, samples, walks, strict=True)
            )
        ]


def walk_of(settings: Settings, sample: SampleSettings) -> "tuple[int, Walk]":
    """The number of steps, and the sampler."""
    from latte_cli.core.sampling.denoise import sampler_walk

    schedule = make_schedule(settings.diffusion, sample.respacing or str(sample.steps))
    return schedule.num_timesteps, sampler_walk(sample.sampler, schedule, eta=sample.eta)


def guidance_of(sample: SampleSettings, *, conditional: bool) -> float:
    """The guidance scale; 1 (none) for an unconditional model."""
    return sample.guidance_scale if conditional else 1.0


def load_trained(settings: Settings, checkpoint: Path, lora: Sequence[LoraUse] = ()) -> Transformer:
    """Load the transformer with a checkpoint's averaged weights, and LoRA added to them.

    Raises LatteError if they do not fit, or if the base weights of a LoRA run have changed.
    """
    from latte_cli.core.models.weights import load_weights

    architecture = architecture_of(settings)
    model = architecture.shell(settings, checkpoint)
    adapters = read_adapters(lora)
    start = checkpoint
    if holds_lora(settings, checkpoint):
        start = _start_of(architecture, settings, checkpoint)
        adapters = [*read_adapters([LoraUse(path=lora_file(checkpoint))]), *adapters]
    load_weights(model, WithAdapters(architecture.read(start), adapters), source=str(checkpoint))
    return model


def encode_prompts(settings: Settings, texts: Sequence[tuple[str, str]]) -> "list[Condition]":
    """The condition of each (prompt, negative prompt), as in training. Every text is encoded once."""
    if not texts:
        return []
    from latte_cli.core.models.text.encoder import TextEncoder, condition_of

    folder, text = text_folder(settings), settings.text
    distinct = list(dict.fromkeys(text for pair in texts for text in pair))
    states = TextEncoder(folder, dtype=text.dtype, clean_caption=text.clean_caption).encode_all(distinct)
    known = {text: condition_of(one, folder)[None] for text, one in zip(distinct, states, strict=True)}
    return [(known[prompt], known[negative]) for prompt, negative in texts]


def checkpoint_files(settings: Settings, checkpoint: Path) -> list[Path]:
    """The files of a checkpoint's transformer, or of the weights used instead.

    Raises LatteError if one is missing.
    """
    layout = architecture_of(settings).layout
    if not holds_lora(settings, checkpoint):
        return [*open_weights(checkpoint, kind=layout).files] if checkpoint.is_dir() else [checkpoint]
    changes = lora_file(checkpoint)
    if not changes.is_file():
        raise LatteError(f"{changes}: no such file, expected the LoRA weights of {checkpoint.name}")
    return [changes, *open_weights(base_weights(settings), kind=layout).files]


def clip_shape(settings: Settings) -> tuple[int, ...]:
    """(F, 4, h, w) of a clip's latents."""
    sizes = sizes_of(settings)
    return (sizes.num_frames, sizes.in_channels, sizes.sample_size, sizes.sample_size)


def _start_of(architecture: Architecture, settings: Settings, checkpoint: Path) -> Path:
    """The weights that a LoRA run started from. Raises LatteError if they have changed."""
    start = base_weights(settings)
    of_run = checkpoint != lora_file(checkpoint)
    if of_run and read_run(checkpoint, RunBase).base != digest_of(start, architecture.layout):
        raise LatteError(f"{checkpoint}: train.init_from {start} contains other weights than in training")
    return start


def _vae_files(settings: Settings) -> list[Path]:
    """The autoencoder's files, except the one shipped with the package."""
    if settings.vae.weights == DEMO:
        return []
    files = find_autoencoder(settings.vae.weights)
    return [*files.every_weight] if files.config is None else [*files.every_weight, files.config]
