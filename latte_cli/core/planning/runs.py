"""Plans of training on a data set, caching it, and sampling from a run. Does not import MindSpore."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from latte_cli.core.checkpoints.runs import chosen_checkpoint, holds_lora
from latte_cli.core.data.captions.files import texts_of
from latte_cli.core.data.latent_cache.manifest import read_manifest
from latte_cli.core.data.latent_cache.open import open_cache
from latte_cli.core.data.latent_cache.texts import StoredTexts, captions_of, read_text_header
from latte_cli.core.data.videos.demo import clips_root
from latte_cli.core.data.videos.find import check_labels, labelled_videos, scan
from latte_cli.core.data.videos.left_out import LeftOut, summary
from latte_cli.core.diffusion.reuse import FullSteps
from latte_cli.core.errors import LatteError
from latte_cli.core.machine.device import check_switches
from latte_cli.core.models.architectures import sizes_of
from latte_cli.core.models.conditions.encoder import check_cached_states, text_folder
from latte_cli.core.models.sizes import Sizes
from latte_cli.core.planning.cost import (
    forward_flops,
    mindspore_memory,
    step_flops,
    training_memory,
)
from latte_cli.core.planning.plan import PROMPTS_SHOWN, SCAN_SECONDS, Plan
from latte_cli.core.planning.reuse import forward_passes, full_steps_text, guidance_text
from latte_cli.core.planning.room import check_folder, check_sampling_memory, check_training_memory
from latte_cli.core.planning.run_time import sampling_parts, training_parts
from latte_cli.core.planning.timing import DENOISING, TRAINING, Part, add_time
from latte_cli.core.planning.units import bytes_of, short
from latte_cli.core.planning.validation import validation_of
from latte_cli.core.sampling.calibration import full_steps_of, reuse_file, run_setup
from latte_cli.core.settings.schema import DataSettings, Settings
from latte_cli.core.storage.hub import is_name, name_of
from latte_cli.core.training.tracking import check_tracker


def train_plan(settings: Settings, *, workers: int = 1) -> Plan:
    """The plan of a training run: size, memory, time and data."""
    plan, train, shape = Plan(), settings.train, sizes_of(settings)
    _add_model(plan, shape)
    global_batch = train.batch_size * train.accumulation * workers
    shared = f", shared by {workers} workers" if workers > 1 else ""
    plan.add("clips per step", f"{global_batch} of {shape.num_frames} frames, {_size(shape)}{shared}")
    memory = training_memory(shape, train, workers=workers)
    sizes = {"MindSpore": mindspore_memory(settings.device), **memory._asdict()}
    parts = ", ".join(f"{name} {bytes_of(size)}" for name, size in sizes.items() if size)
    plan.add("memory", f"about {bytes_of(sum(sizes.values()))} per worker: {parts}")
    plan.check(lambda: check_training_memory(shape, train, settings.device, workers=workers))
    add_time(
        plan,
        train.steps,
        step_flops(shape, train),
        "step",
        share=TRAINING,
        others=partial(training_parts, settings),
    )
    if settings.cache.dir is None:
        _add_videos(plan, settings, global_batch)
        _require_vae(plan, settings)
    else:
        _add_cache(plan, settings, global_batch)
    plan.require("data.captions", settings.data.captions)
    plan.require("train.init_from", train.init_from)
    if settings.model.condition == "text":
        if read_text_header(settings.cache.dir) is None:
            _add_text(plan, settings)
        _add_captions(plan, settings, trains=True)
    plan.check(lambda: check_switches(settings, settings.device))
    plan.check(lambda: check_tracker(train))
    plan.check(lambda: check_folder("run_dir", settings.run_dir))
    plan.add(
        "writes", f"{settings.run_dir}, a checkpoint every {train.checkpoint_every} steps, {train.keep} kept"
    )
    return plan


def cache_plan(settings: Settings, *, encodes: bool = True) -> Plan:
    """The plan of caching; `encodes`: whether it needs videos and encoders."""
    plan = Plan()
    try:
        videos, _ = labelled_videos(settings.data)
        plan.add("data", f"{settings.data.root}: {_videos(len(videos))}")
    except LatteError as error:
        if encodes:
            plan.problems.append(str(error))
    cache = settings.cache
    if not encodes:
        plan.add("checks", f"{cache.dir}")
        return plan
    _require_vae(plan, settings)
    plan.require("data.captions", settings.data.captions)
    if settings.text.encoder is not None or settings.model.condition == "text":
        _add_text(plan, settings)
    if settings.model.condition == "text":
        _add_captions(plan, settings, trains=False)
    if cache.dir is not None:
        folder = cache.dir
        plan.check(lambda: check_folder("cache.dir", folder))
    plan.add(
        "writes",
        f"{cache.dir}: {cache.store} of {settings.data.image_size} px as {cache.type}, {cache.dtype}",
    )
    return plan


def sample_plan(
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    decodes: bool = True,
    prompts: Sequence[str] = (),
    most_steps: int = 0,
    out: Path | None = None,
    full_steps: FullSteps | None = None,
) -> Plan:
    """The plan of sampling into `out`: size, time and files.

    decodes: whether latents are decoded. most_steps: maximum of --steps in a prompts file.
    full_steps: those of a replayed clip; None: those of the settings.
    """
    plan, sample, shape = Plan(), settings.sample, sizes_of(settings)
    _add_model(plan, shape)
    plan.check(lambda: check_sampling_memory(shape, settings.device))
    number = sample.num_samples * max(1, len(prompts))
    plan.add("clips", f"{number} of {shape.num_frames} frames, {_size(shape)}, seed {sample.seed}")
    for prompt in prompts[:PROMPTS_SHOWN]:
        plan.add("", prompt or "the empty prompt")
    if prompts:
        _add_text(plan, settings)
    if most_steps > (total := settings.diffusion.num_timesteps):
        plan.problems.append(
            f"--prompts-file: --steps: found {most_steps}, expected at most diffusion.num_timesteps {total}"
        )
    others = partial(sampling_parts, settings, checkpoint, clips=number, texts=prompts, decodes=decodes)
    _add_sampler(plan, settings, number * forward_flops(shape), full_steps, others)
    _add_checkpoint(plan, settings, checkpoint)
    if decodes:
        _require_vae(plan, settings)
    plan.check(lambda: check_folder("--out" if out else "run_dir", out or settings.run_dir / "samples"))
    return plan


def _add_sampler(
    plan: Plan,
    settings: Settings,
    operations: int,
    full_steps: FullSteps | None,
    others: Callable[[], tuple[Part, ...]],
) -> None:
    """Rows on the steps and the time; `operations`: of a forward pass of all clips; `others`: other parts."""
    sample, setup = settings.sample, run_setup(settings, settings.sample)
    scale, every, file = sample.guidance_scale, sample.guidance_every, None
    plan.add("sampler", f"{setup.sampler}, {setup.steps} steps{guidance_text(scale, every)}")
    if full_steps is None:
        file = reuse_file(sample, settings.run_dir)
        try:
            full_steps = full_steps_of(sample, setup, file)
        except LatteError as error:
            plan.problems.append(str(error))
    if full_steps is not None:
        plan.add("full steps", full_steps_text(full_steps, setup.steps, file))
    passes = forward_passes(setup.steps, full_steps, guided=scale != 1, guidance_every=every)
    unit, number = ("step", setup.steps) if full_steps is None and every == 1 else ("pass", passes)
    add_time(plan, number, passes // number * operations, unit, share=DENOISING, others=others)


def _add_checkpoint(plan: Plan, settings: Settings, given: Path | None) -> None:
    """The weights for sampling."""
    try:
        chosen = chosen_checkpoint(settings, given)
    except LatteError as error:
        plan.problems.append(str(error))
        return
    plan.add("checkpoint", name_of(str(chosen)))
    plan.require("sample.pretrained" if chosen == settings.sample.pretrained else "--checkpoint", chosen)
    if holds_lora(settings, chosen):
        plan.add("base weights", name_of(str(settings.train.init_from)))
        plan.require("train.init_from", settings.train.init_from)


def _add_model(plan: Plan, shape: Sizes) -> None:
    heads = f"{shape.num_heads} heads, patch {shape.patch_size}"
    plan.add("model", f"{shape.hidden_size} wide, {shape.depth} deep, {heads}, condition {shape.condition}")
    plan.add("parameters", f"{shape.parameters():,}, of which {shape.trained_parameters():,} are trained")


def _add_videos(plan: Plan, settings: Settings, global_batch: int) -> None:
    """Add rows on the videos: their number, and whether they are long enough."""
    data = settings.data
    try:
        found = scan(data, seconds=SCAN_SECONDS)
        if settings.model.condition == "class" and settings.model.num_classes is not None:
            check_labels(found.videos, settings.model.num_classes)
    except LatteError as error:
        plan.problems.append(str(error))
        plan.add("data", f"{data.root}: not ready")
        plan.add("steps per epoch", "unknown: no videos found")
        return
    count = len(found.videos) - len(found.opened.left_out)
    text = f"{clips_root(data.root or Path())}: {_videos(count)}"
    if not found.complete:
        text += f", {len(found.opened.videos)} of them checked"
    if found.opened.left_out:
        text += f", {len(found.opened.left_out)} left out"
    plan.add("data", text)
    _add_left_out(plan, found.opened.left_out, data)
    left_out = {video.name for video in found.opened.left_out}
    _add_epoch(plan, settings, [v.name for v in found.videos if v.name not in left_out], global_batch)


def _add_cache(plan: Plan, settings: Settings, global_batch: int) -> None:
    """Add rows on the cache, checked against the settings."""
    try:
        index, _ = open_cache(settings)
        if settings.model.condition == "class" and settings.model.num_classes is not None:
            check_labels(index.videos, settings.model.num_classes)
    except LatteError as error:
        plan.problems.append(str(error))
        plan.add("data", f"{settings.cache.dir}: not ready")
        return
    plan.add("data", f"{settings.cache.dir}: latents of {_videos(len(index.videos))}")
    _add_left_out(plan, index.left_out, settings.data)
    _add_epoch(plan, settings, [video.name for video in index.videos], global_batch)


def _add_left_out(plan: Plan, left_out: Sequence[LeftOut], data: DataSettings) -> None:
    if left_out:
        plan.add("left out", summary(left_out, data))


def _add_epoch(plan: Plan, settings: Settings, names: Sequence[str], global_batch: int) -> None:
    """Add rows on held-out videos and epochs."""
    steps, videos = settings.train.steps, len(names)
    try:
        if (validation := validation_of(settings, names)) is not None:
            plan.add("validation", validation.text)
            videos -= validation.held_out
    except LatteError as error:
        plan.problems.append(str(error))
    epochs = short(steps * global_batch / videos)
    plan.add("steps per epoch", f"{short(videos / global_batch)}: {steps:,} steps are {epochs} epochs")


def _add_text(plan: Plan, settings: Settings) -> None:
    """Add a row on the text encoder."""
    named = settings.text.encoder or settings.train.init_from
    if is_name(named):
        plan.add("text", name_of(str(named)))
        return
    try:
        found = text_folder(settings)
        plan.add("text", f"{found.encoder}: {found.kind}, {found.max_tokens} tokens of width {found.width}")
    except LatteError as error:
        plan.problems.append(str(error))


def _add_captions(plan: Plan, settings: Settings, *, trains: bool) -> None:
    """Add rows on the captions if there are no other problems; for training, the cache must contain all."""
    if plan.problems:
        return
    root, cache = settings.data.root, settings.cache.dir
    if root is not None and clips_root(root).exists():
        names = [video.name for video in labelled_videos(settings.data)[0]]
    else:
        names = list(read_manifest(cache)) if cache is not None else []
    try:
        captions = captions_of(settings, names)
        header, texts = read_text_header(cache), texts_of(captions)
        left_out = f", {len(names) - len(captions)} without" if len(captions) < len(names) else ""
        plan.add("captions", f"{len(texts) - 1:,} of {_videos(len(captions))}{left_out}")
        if header is not None and cache is not None:
            plan.add("text", f"{cache}: states of {header.kind}, width {header.width}")
            if trains:
                check_cached_states(settings, header)
                StoredTexts(cache, header, texts)
    except LatteError as error:
        plan.problems.append(str(error))


def _require_vae(plan: Plan, settings: Settings) -> None:
    weights = settings.vae.weights
    plan.add("autoencoder", "the package's own, for the demo" if weights == "demo" else name_of(str(weights)))
    if weights is None:
        plan.problems.append('vae.weights: not set, expected a file, a diffusers folder, or "demo"')
    elif weights != "demo":
        plan.require("vae.weights", weights)


def _videos(count: int) -> str:
    return "1 video" if count == 1 else f"{count:,} videos"


def _size(shape: Sizes) -> str:
    return f"latents {shape.sample_size} x {shape.sample_size}"
