"""Rules for combinations of settings, beyond the type and bounds of each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from latte_cli.core.errors import found
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.architectures import architecture_of
from latte_cli.core.models.sizes import ModelSize, example_of
from latte_cli.core.settings.messages import Fault, nearest
from latte_cli.core.settings.schema import Settings

Command = Literal["train", "cache", "sample", "bench"]


def broken_rules(settings: Settings, command: Command | None = None) -> Iterator[Fault]:
    """The faults of the settings, including the rules of `command` if given."""
    of_run = command == "sample" and settings.sample.pipeline is None
    yield from _size_rules(settings, needed=of_run or command in ("train", "bench"))
    yield from _condition_rules(settings)
    yield from architecture_of(settings).faults(settings, command)
    yield from _text_rules(settings, command)
    yield from _part_rules(settings)
    yield from _data_rules(settings, command)
    yield from _validation_rules(settings, command)
    yield from _sample_rules(settings)


def _size_rules(settings: Settings, *, needed: bool) -> Iterator[Fault]:
    """The transformer's size is defined and fits the frames."""
    model = settings.model
    given = model.model_dump(include=set(ModelSize._fields), exclude_none=True)
    architecture = architecture_of(settings)
    presets = architecture.presets
    if model.preset is not None and model.preset in presets:
        given = presets[model.preset]._asdict() | given
    missing = [name for name in ModelSize._fields if name not in given]
    if model.preset is not None and model.preset not in presets:
        near = nearest(model.preset, list(presets)) if len(presets) > 1 else None
        hint = "" if near is None else f"; did you mean {near}?"
        expected = found(model.preset, f"{architecture.preset_names}{hint}")
        yield Fault("model.preset", expected, ("model.architecture",))
    elif missing and (given or needed):
        text = f"size not defined; expected {', '.join(missing)}, or model.preset {example_of(presets)}"
        yield Fault(
            "model", text, ("model.preset", "sample.pipeline", *(f"model.{name}" for name in missing))
        )
    if given.get("depth", 0) % 2:
        yield Fault(
            "model.depth", found(given["depth"], "an even number: spatial and temporal blocks alternate")
        )
    if (width := given.get("hidden_size")) is not None:
        yield from _width_rules(width, given.get("num_heads"))
    latent_size = settings.data.image_size // VAE_FACTOR
    if (patch := given.get("patch_size")) is not None and latent_size % patch:
        text = found(
            settings.data.image_size,
            f"a multiple of {VAE_FACTOR * patch}: patch_size {patch} x {VAE_FACTOR}",
        )
        yield Fault("data.image_size", text, ("model.patch_size",))


def _width_rules(width: int, num_heads: int | None) -> Iterator[Fault]:
    if width % 4:
        text = found(width, "a multiple of 4: sines and cosines for two axes")
        yield Fault("model.hidden_size", text)
    if num_heads is not None and width % num_heads:
        text = found(num_heads, f"a divisor of hidden_size {width}")
        yield Fault("model.num_heads", text, ("model.hidden_size", "model.preset"))


def _condition_rules(settings: Settings) -> Iterator[Fault]:
    """The condition has all its settings, and no others that would be ignored."""
    model, sample = settings.model, settings.sample
    if model.condition == "class" and model.num_classes is None:
        yield Fault(
            "model.num_classes", _unset("a number of classes, for condition: class"), ("model.condition",)
        )
    if model.condition != "class" and model.num_classes is not None:
        text = found(model.num_classes, f"null, for condition: {model.condition}")
        yield Fault("model.num_classes", text, ("model.condition",))
    if model.condition != "class" and sample.class_labels:
        text = f"found labels, expected none for condition: {model.condition}"
        yield Fault("sample.class_labels", text, ("model.condition",))
    if model.condition == "class" and model.num_classes is not None:
        wrong = [label for label in sample.class_labels if not 0 <= label < model.num_classes]
        if wrong:
            text = found(
                wrong[0], f"labels from 0 to {model.num_classes - 1} (model.num_classes {model.num_classes})"
            )
            yield Fault("sample.class_labels", text, ("model.num_classes", "model.condition"))


def _text_rules(settings: Settings, command: Command | None) -> Iterator[Fault]:
    """A text-conditional model has a text encoder, and other models have no prompts."""
    model, sample = settings.model, settings.sample
    of_model = ("model.condition", "model.architecture")
    if model.condition != "text" and sample.pipeline is None and sample.prompts:
        text = f"found prompts, expected none for condition: {model.condition}"
        yield Fault("sample.prompts", text, ("model.condition", "sample.pipeline"))
    if model.condition != "text" or command not in ("train", "cache"):
        return
    kind = architecture_of(settings).text_kind.upper()
    reads_states = command == "train" and settings.cache.dir is not None
    if settings.text.encoder is None and settings.train.init_from is None and not reads_states:
        text = _unset(f"the folder of a {kind} text encoder, for condition: text")
        yield Fault("text.encoder", text, (*of_model, "train.init_from", "cache.dir"))


def _part_rules(settings: Settings) -> Iterator[Fault]:
    """The architecture supports the trained part, and LoRA has weights to adapt."""
    train = settings.train
    parts = architecture_of(settings).parts
    if train.part not in parts:
        text = found(train.part, f"{' or '.join(parts)}, for architecture: {settings.model.architecture}")
        yield Fault("train.part", text, ("model.architecture",))
    elif train.trains_lora and train.init_from is None:
        text = _unset("weights to adapt, for part: lora: a pipeline folder or a transformer's weights")
        yield Fault("train.init_from", text, ("train.part",))
    if train.shard_optimizer and train.trains_lora:
        text = found(True, "false, for part: lora, whose few parameters have little state")
        yield Fault("train.shard_optimizer", text, ("train.part",))


def _data_rules(settings: Settings, command: Command | None) -> Iterator[Fault]:
    """There is data, and the cache contains what training needs."""
    data, cache = settings.data, settings.cache
    reads_frames = command == "cache" or (command == "train" and cache.dir is None)
    if reads_frames and data.root is None:
        other = ", or cache.dir: a folder made by latte cache" if command == "train" else ""
        yield Fault("data.root", _unset(f"a folder of videos{other}"), ("cache.dir",))
    if reads_frames and settings.vae.weights is None:
        yield Fault("vae.weights", _unset('a file, a diffusers folder, or "demo"'), ("cache.dir",))
    if command == "cache" and cache.dir is None:
        yield Fault("cache.dir", _unset("a folder for the latents"))
    if cache.dir is not None and data.random_flip and not cache.mirror:
        text = found(True, "false, or cache.mirror: true, since the cache contains no mirrored clips")
        yield Fault("data.random_flip", text, ("cache.dir", "cache.mirror"))


def _validation_rules(settings: Settings, command: Command | None) -> Iterator[Fault]:
    """There is something to validate on, and a loss to choose the best checkpoint by."""
    data, train = settings.data, settings.train
    if train.validate_every and data.validation is None:
        wanted = "0, or data.validation: a folder of videos, or a share of data.root's"
        yield Fault("train.validate_every", found(train.validate_every, wanted), ("data.validation",))
    if train.keep_best and not train.validate_every:
        text = found(True, "false, or steps in train.validate_every")
        yield Fault("train.keep_best", text, ("train.validate_every",))
    from_cache = command == "train" and settings.cache.dir is not None
    encodes = train.validate_every and isinstance(data.validation, Path)
    if from_cache and encodes and settings.vae.weights is None:
        wanted = "an autoencoder for the videos of data.validation, which are not in the cache"
        yield Fault("vae.weights", _unset(wanted), ("data.validation", "cache.dir"))


def _sample_rules(settings: Settings) -> Iterator[Fault]:
    """The sampling steps fit the forward process."""
    total, sample = settings.diffusion.num_timesteps, settings.sample
    involved = ("diffusion.num_timesteps",)
    if sample.respacing is None:
        if sample.steps > total:
            text = found(sample.steps, f"at most diffusion.num_timesteps {total}")
            yield Fault("sample.steps", text, (*involved, "sample.respacing"))
    elif not _is_respacing(sample.respacing, total):
        expected = f'"250", "ddim50", "10,20,30" or similar, for {total} steps'
        yield Fault("sample.respacing", found(sample.respacing, expected), involved)
    full = sample.full_steps
    if full is not None and sample.pipeline is None and sample.respacing is None and full > sample.steps:
        yield Fault(
            "sample.full_steps", found(full, f"at most sample.steps {sample.steps}"), ("sample.steps",)
        )


def _unset(expected: str) -> str:
    return f"not set, expected {expected}"


def _is_respacing(respacing: str, total: int) -> bool:
    """Whether a respacing is valid: ddimN with an integer stride, or counts that fit equal sections."""
    counts = respacing.removeprefix("ddim").split(",")
    if not all(count.strip().isdecimal() for count in counts):
        return False
    numbers = [int(count) for count in counts]
    if respacing.startswith("ddim"):
        return len(numbers) == 1 and any(len(range(0, total, i)) == numbers[0] for i in range(1, total))
    sections = [total // len(numbers) + (i < total % len(numbers)) for i in range(len(numbers))]
    return sum(numbers) > 0 and all(count <= size for count, size in zip(numbers, sections, strict=True))
