"""A text-to-video transformer's sizes, from the settings and from the config.json next to its weights."""

from dataclasses import dataclass, replace
from pathlib import Path

from latte_cli.core.checkpoints.folders import CONFIG, is_pipeline
from latte_cli.core.data.captions.states import MAX_TOKENS
from latte_cli.core.data.latent_cache.texts import read_text_header
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.latte_t2v.shape import MLP_RATIO, TextToVideoShape, read_shape
from latte_cli.core.models.sizes import ModelSize, model_size
from latte_cli.core.models.text.folder import find_text_encoder
from latte_cli.core.settings.schema import Settings

# The transformer of maxin-cn/Latte-1: 28 spatial and 28 temporal blocks.
PRESETS = {"Latte-1": ModelSize(1152, 56, 16, 2)}
T5_WIDTH = 4096  # of T5-XXL's states, used by Latte-1


@dataclass(frozen=True)
class TextToVideoSizes:
    """`Sizes` of a text-to-video transformer for frames of `sample_size` latent pixels."""

    shape: TextToVideoShape
    sample_size: int
    part: str = "all"
    lora_rank: int = 0
    """Rank of LoRA if only that is trained, else 0."""
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
        """Zero: the tables are computed."""
        return 0

    def trained_parameters(self) -> int:
        """Number of trained parameters."""
        if self.part == "temporal":
            return self.shape.temporal_parameters()
        return self.shape.lora_parameters(self.lora_rank) or self.shape.parameters()

    def parameters(self) -> int:
        """Number of all parameters, including LoRA."""
        return self.shape.parameters() + self.shape.lora_parameters(self.lora_rank)


def text_to_video_shape(settings: Settings) -> TextToVideoShape:
    """The transformer's shape for an experiment's settings, for model.architecture: latte-t2v.

    If there is a `config.json` with the weights of train.init_from, position scale and text width are taken
    from it; frames and timesteps come from the settings, since their tables are computed. Raises LatteError
    if those weights have other sizes.
    """
    size, data = model_size(settings.model, PRESETS), settings.data
    expected = TextToVideoShape(
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
    found = None if start is None else shape_next_to(start)
    if found is None:
        return expected
    differing = []
    for name in ("hidden_size", "depth", "num_heads", "patch_size", "out_channels"):
        mine, theirs = getattr(expected, name), getattr(found, name)
        if mine != theirs:
            mine, theirs = (2 * mine, 2 * theirs) if name == "depth" else (mine, theirs)
            setting = "model.learn_sigma: out_channels" if name == "out_channels" else f"model.{name}"
            differing.append(f"{setting}: found {mine}, expected {theirs}")
    if differing:
        raise LatteError(f"{'; '.join(differing)}, as in train.init_from {start}")
    return replace(found, num_frames=expected.num_frames, num_timesteps=expected.num_timesteps)


def shape_next_to(path: Path) -> TextToVideoShape | None:
    """The shape from the `config.json` of a pipeline, of a transformer's folder or next to a weights file.

    None if there is no such file. Raises LatteError if it describes another model.
    """
    folder = path if path.is_dir() else path.parent
    config = (folder / "transformer" if is_pipeline(path) else folder) / CONFIG
    return read_shape(config) if config.is_file() else None


def _caption_channels(settings: Settings) -> int:
    """The width of captions' states; Latte-1's if the encoder is not available."""
    folder = settings.text.encoder
    if folder is not None and folder.is_dir():
        return find_text_encoder(folder).width
    cached = read_text_header(settings.cache.dir)
    return T5_WIDTH if cached is None else cached.width
