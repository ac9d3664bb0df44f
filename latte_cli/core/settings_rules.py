"""What settings must satisfy together, beyond the type and bounds of each."""

from collections.abc import Iterator
from typing import Literal

from latte_cli.core.presets import PRESETS, ModelSize
from latte_cli.core.settings import Settings
from latte_cli.core.settings_faults import Fault, found, nearest

Command = Literal["train", "cache", "sample", "bench"]
_VAE_FACTOR = 8


def broken_rules(settings: Settings, command: Command | None = None) -> Iterator[Fault]:
    """Every rule that the settings break; those of `command` too, when one is named."""
    yield from _size_rules(settings, needed=command in ("train", "sample", "bench"))
    yield from _condition_rules(settings, training=command == "train")
    yield from _data_rules(settings, command)
    yield from _sample_rules(settings)


def _size_rules(settings: Settings, *, needed: bool) -> Iterator[Fault]:
    """The transformer has a whole size that fits the frames."""
    model = settings.model
    given = model.model_dump(include=set(ModelSize._fields), exclude_none=True)
    if model.preset in PRESETS:
        given = PRESETS[model.preset]._asdict() | given
    missing = [name for name in ModelSize._fields if name not in given]
    if model.preset is not None and model.preset not in PRESETS:
        near = nearest(model.preset, list(PRESETS))
        hint = "" if near is None else f"; did you mean {near}?"
        yield Fault("model.preset", found(model.preset, f"Latte-XL, -L, -B or -S with /2, /4 or /8{hint}"))
    elif missing and (given or needed):
        text = f"no size; wanted {', '.join(missing)} by number, or model.preset such as Latte-XL/2"
        yield Fault("model", text, ("model.preset", *(f"model.{name}" for name in missing)))
    if given.get("depth", 0) % 2:
        yield Fault(
            "model.depth", found(given["depth"], "an even number: spatial and temporal blocks in turn")
        )
    if (width := given.get("hidden_size")) is not None:
        yield from _width_rules(width, given.get("num_heads"))
    latent_size = settings.data.image_size // _VAE_FACTOR
    if (patch := given.get("patch_size")) is not None and latent_size % patch:
        text = found(
            settings.data.image_size,
            f"a multiple of {_VAE_FACTOR * patch}: patch_size {patch} x {_VAE_FACTOR}",
        )
        yield Fault("data.image_size", text, ("model.patch_size",))


def _width_rules(width: int, num_heads: int | None) -> Iterator[Fault]:
    if width % 4:
        text = found(width, "a multiple of 4: sines and cosines of two directions")
        yield Fault("model.hidden_size", text)
    if num_heads is not None and width % num_heads:
        text = found(num_heads, f"a divisor of hidden_size {width}")
        yield Fault("model.num_heads", text, ("model.hidden_size", "model.preset"))


def _condition_rules(settings: Settings, *, training: bool) -> Iterator[Fault]:
    """The condition has what it needs, and nothing is given that it would ignore."""
    model, sample = settings.model, settings.sample
    if model.condition == "class" and model.num_classes is None:
        yield Fault(
            "model.num_classes", _unset("a number of classes, for condition: class"), ("model.condition",)
        )
    if model.condition != "class" and model.num_classes is not None:
        text = found(model.num_classes, f"null, for condition: {model.condition}")
        yield Fault("model.num_classes", text, ("model.condition",))
    if model.condition != "class" and sample.class_labels:
        text = f"found labels, wanted none for condition: {model.condition}"
        yield Fault("sample.class_labels", text, ("model.condition",))
    if model.condition == "class" and model.num_classes is not None:
        wrong = [label for label in sample.class_labels if not 0 <= label < model.num_classes]
        if wrong:
            text = found(
                wrong[0], f"labels from 0 to {model.num_classes - 1} (model.num_classes {model.num_classes})"
            )
            yield Fault("sample.class_labels", text, ("model.num_classes", "model.condition"))
    if (
        model.condition == "text"
        and training
        and settings.data.captions is None
        and settings.cache.dir is None
    ):
        yield Fault("data.captions", _unset("a file of captions, for condition: text"), ("model.condition",))
    if model.condition == "text" and training and settings.data.use_image_num:
        text = found(settings.data.use_image_num, "0 for condition: text, since images have no captions")
        yield Fault("data.use_image_num", text, ("model.condition",))


def _data_rules(settings: Settings, command: Command | None) -> Iterator[Fault]:
    """There is something to read, and the cache holds what training asks of it."""
    data, cache = settings.data, settings.cache
    reads_frames = command == "cache" or (command == "train" and cache.dir is None)
    if reads_frames and data.root is None:
        other = ", or cache.dir: a folder that latte cache filled" if command == "train" else ""
        yield Fault("data.root", _unset(f"a folder of videos{other}"), ("cache.dir",))
    if reads_frames and settings.vae.weights is None:
        yield Fault("vae.weights", _unset('a file, a diffusers folder, or "demo"'), ("cache.dir",))
    if command == "cache" and cache.dir is None:
        yield Fault("cache.dir", _unset("a folder for the latents"))
    if cache.dir is not None and data.random_flip and not cache.mirror:
        text = found(True, "false, or cache.mirror: true, since the cache holds no mirrored clips")
        yield Fault("data.random_flip", text, ("cache.dir", "cache.mirror"))
    if settings.train.dtype == "bfloat16" and settings.model.patch_embedder == "conv" and command == "train":
        text = found("conv", "linear, for train.dtype: bfloat16")
        yield Fault("model.patch_embedder", text, ("train.dtype",))


def _sample_rules(settings: Settings) -> Iterator[Fault]:
    """The sampling steps can be taken from the forward process."""
    total, sample = settings.diffusion.num_timesteps, settings.sample
    involved = ("diffusion.num_timesteps",)
    if sample.respacing is None:
        if sample.steps > total:
            text = found(sample.steps, f"at most diffusion.num_timesteps {total}")
            yield Fault("sample.steps", text, (*involved, "sample.respacing"))
    elif not _is_respacing(sample.respacing, total):
        wanted = f'"250", "ddim50", "10,20,30" or the like, of {total} steps'
        yield Fault("sample.respacing", found(sample.respacing, wanted), involved)


def _unset(wanted: str) -> str:
    return f"not set, wanted {wanted}"


def _is_respacing(respacing: str, total: int) -> bool:
    """Whether a string picks timesteps: ddimN by a whole stride, else counts that fit equal sections."""
    counts = respacing.removeprefix("ddim").split(",")
    if not all(count.strip().isdecimal() for count in counts):
        return False
    numbers = [int(count) for count in counts]
    if respacing.startswith("ddim"):
        return len(numbers) == 1 and any(len(range(0, total, i)) == numbers[0] for i in range(1, total))
    sections = [total // len(numbers) + (i < total % len(numbers)) for i in range(len(numbers))]
    return sum(numbers) > 0 and all(count <= size for count, size in zip(numbers, sections, strict=True))
