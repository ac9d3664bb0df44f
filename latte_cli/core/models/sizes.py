"""The transformer and text encoder of an experiment, by small files alone: what a plan needs of them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from latte_cli.core.data.captions.states import MAX_TOKENS, Kind
from latte_cli.core.data.latent_cache.texts import TextHeader, read_text_header
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.latte_t2v.shape import MLP_RATIO, TextToVideoShape, read_shape
from latte_cli.core.models.pipeline.folder import TextFolder, find_text_encoder
from latte_cli.core.models.shape import TEXT_FEATURES, resolve_model
from latte_cli.core.settings.presets import model_size
from latte_cli.core.settings.schema import Settings

CONFIG = "config.json"  # beside a transformer's weights
T5_WIDTH = 4096  # of the states that Latte-1 reads: T5-XXL's
CLIP_WIDTH = TEXT_FEATURES // MAX_TOKENS["clip"]


class Sizes(Protocol):
    """What the work and the memory of a transformer follow from; `depth` counts every block."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def patch_size(self) -> int: ...
    @property
    def mlp_size(self) -> int: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def out_channels(self) -> int: ...
    @property
    def sample_size(self) -> int: ...
    @property
    def num_frames(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def text_tokens(self) -> int: ...
    @property
    def condition(self) -> str: ...
    def position_parameters(self) -> int: ...
    def trained_parameters(self) -> int: ...
    def parameters(self) -> int: ...


@dataclass(frozen=True)
class TextToVideoSizes:
    """`Sizes` of a text-to-video transformer on frames of `sample_size` latent pixels."""

    shape: TextToVideoShape
    sample_size: int
    part: Literal["all", "temporal", "lora"] = "all"
    lora_rank: int = 16
    condition: str = "text"
    text_tokens: int = MAX_TOKENS["t5"]

    @property
    def hidden_size(self) -> int:
        return self.shape.hidden_size

    @property
    def depth(self) -> int:
        return 2 * self.shape.depth

    @property
    def num_heads(self) -> int:
        return self.shape.num_heads

    @property
    def patch_size(self) -> int:
        return self.shape.patch_size

    @property
    def mlp_size(self) -> int:
        return MLP_RATIO * self.shape.hidden_size

    @property
    def in_channels(self) -> int:
        return self.shape.in_channels

    @property
    def out_channels(self) -> int:
        return self.shape.out_channels

    @property
    def num_frames(self) -> int:
        return self.shape.num_frames

    @property
    def tokens(self) -> int:
        return (self.sample_size // self.shape.patch_size) ** 2

    def position_parameters(self) -> int:
        """None: the tables are computed."""
        return 0

    def trained_parameters(self) -> int:
        """Numbers that training changes."""
        if self.part == "temporal":
            return self.shape.temporal_parameters()
        return self.shape.lora_parameters(self.lora_rank) if self.part == "lora" else self.shape.parameters()

    def parameters(self) -> int:
        """All numbers, low-rank changes included."""
        changes = self.shape.lora_parameters(self.lora_rank) if self.part == "lora" else 0
        return self.shape.parameters() + changes


def sizes_of(settings: Settings) -> Sizes:
    """The sizes of an experiment's transformer. Raises LatteError as `text_to_video_shape` does."""
    if settings.model.architecture == "latte":
        return resolve_model(settings)
    side, train = settings.data.image_size // VAE_FACTOR, settings.train
    return TextToVideoSizes(text_to_video_shape(settings), side, train.part, train.lora_rank)


def text_to_video_shape(settings: Settings) -> TextToVideoShape:
    """The shape that an experiment's settings come to, for model.architecture: latte-t2v.

    Where a `config.json` stands with the weights of train.init_from, its places and the width of its text are
    kept; frames and timesteps are the settings' own, since their tables are computed. Raises LatteError when
    those weights are of another size.
    """
    size, data = model_size(settings.model), settings.data
    wanted = TextToVideoShape(
        hidden_size=size.hidden_size,
        depth=size.depth // 2,
        num_heads=size.num_heads,
        patch_size=size.patch_size,
        caption_channels=_caption_channels(settings),
        out_channels=8 if settings.model.learn_sigma else 4,
        sample_size=data.image_size // VAE_FACTOR,
        num_frames=data.num_frames,
        num_timesteps=settings.diffusion.num_timesteps,
    )
    start = settings.train.init_from
    found = None if start is None else shape_beside(start)
    if found is None:
        return wanted
    for name in ("hidden_size", "depth", "num_heads", "patch_size", "out_channels"):
        mine, theirs = getattr(wanted, name), getattr(found, name)
        if mine != theirs:
            mine, theirs = (2 * mine, 2 * theirs) if name == "depth" else (mine, theirs)
            setting = "model.learn_sigma: out_channels" if name == "out_channels" else f"model.{name}"
            raise LatteError(f"{setting}: found {mine}, wanted that of train.init_from {start}, {theirs}")
    return replace(found, num_frames=wanted.num_frames, num_timesteps=wanted.num_timesteps)


def shape_beside(path: Path) -> TextToVideoShape | None:
    """What the `config.json` of a pipeline, of a transformer's folder or beside a file of weights says.

    None where there is none. Raises LatteError for one of another model.
    """
    folder = path if path.is_dir() else path.parent
    config = (folder / "transformer" if is_pipeline(path) else folder) / CONFIG
    return read_shape(config) if config.is_file() else None


def text_folder(settings: Settings) -> TextFolder:
    """The text encoder of an experiment; of its files the small ones alone are read.

    Raises LatteError when there is none, or the model does not read what it makes.
    """
    folder = encoder_folder(settings)
    if folder is None:
        raise LatteError(f"text.encoder: not set, wanted the folder of a {_kind(settings)} text encoder")
    if not folder.is_dir():
        raise LatteError(f"text.encoder: {folder}: no such folder")
    found = find_text_encoder(folder)
    if settings.model.condition == "text":
        _check_states(settings, found, f"text.encoder: {folder}: found a {found.kind} encoder")
    return found


def encoder_folder(settings: Settings) -> Path | None:
    """The folder that names the text encoder: text.encoder, else train.init_from, where that has one."""
    folder, start = settings.text.encoder, settings.train.init_from
    return start if folder is None and start is not None and is_pipeline(start) else folder


def check_cached_states(settings: Settings, header: TextHeader) -> None:
    """Raise LatteError when the model does not read the states in the cache."""
    if settings.model.condition == "text":
        found = f"cache.dir: {settings.cache.dir}: found captions' states of a {header.kind} encoder"
        _check_states(settings, header, found)


def is_pipeline(path: Path) -> bool:
    """Whether a folder is a whole pipeline in the layout of diffusers."""
    return (path / "model_index.json").is_file()


def _kind(settings: Settings) -> Kind:
    """The text encoder that the architecture reads."""
    return "t5" if settings.model.architecture == "latte-t2v" else "clip"


def _check_states(settings: Settings, states: TextFolder | TextHeader, found: str) -> None:
    """Raise LatteError when the model reads states of another kind or width."""
    kind = _kind(settings)
    width = text_to_video_shape(settings).caption_channels if kind == "t5" else CLIP_WIDTH
    if (states.kind, states.width) != (kind, width):
        text = f"{found} of width {states.width}, wanted a {kind} of width {width}"
        raise LatteError(f"{text}, for model.architecture: {settings.model.architecture}")


def _caption_channels(settings: Settings) -> int:
    """The width of the states that captions become; Latte-1's where their encoder is not at hand."""
    folder = settings.text.encoder
    if folder is not None and folder.is_dir():
        return find_text_encoder(folder).width
    cached = read_text_header(settings.cache.dir)
    return T5_WIDTH if cached is None else cached.width
