"""The architecture latte-t2v: the transformer of Latte-1, with cross-attention to T5's states."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from latte_cli.core.checkpoints.mapping import LazyWeights, map_weights
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.errors import found
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.architecture import CHANGES, Architecture, Transformer
from latte_cli.core.models.latte_t2v.shape import MLP_RATIO, TextToVideoShape
from latte_cli.core.models.latte_t2v.sizes import (
    PRESETS,
    TextToVideoSizes,
    shape_next_to,
    text_to_video_shape,
)
from latte_cli.core.settings.messages import Fault
from latte_cli.core.settings.schema import Settings

if TYPE_CHECKING:
    from latte_cli.core.models.latte_t2v.transformer import LatteT2V


class LatteT2VArchitecture(Architecture):
    """See `models.latte_t2v.transformer`."""

    presets = MappingProxyType(PRESETS)
    preset_names = ", ".join(PRESETS)
    text_kind = "t5"
    layout = "t2v"
    parts = MappingProxyType(
        {
            **Architecture.parts,
            "temporal": lambda name: name.startswith("temporal_transformer_blocks"),
            "lora": lambda name: CHANGES in name,
        }
    )

    def faults(self, settings: Settings, command: str | None) -> Iterator[Fault]:
        """It is always text-conditional, and its feed-forward has diffusers' width."""
        model = settings.model
        if model.condition != "text":
            text = found(model.condition, "text, for architecture: latte-t2v")
            yield Fault("model.condition", text, ("model.architecture",))
        if model.mlp_ratio != MLP_RATIO:
            text = found(model.mlp_ratio, f"{MLP_RATIO:g}, for architecture: latte-t2v")
            yield Fault("model.mlp_ratio", text, ("model.architecture",))

    def sizes(self, settings: Settings) -> TextToVideoSizes:
        train = settings.train
        return TextToVideoSizes(
            text_to_video_shape(settings),
            _side(settings),
            train.part,
            train.lora_rank if train.trains_lora else 0,
        )

    def text_width(self, settings: Settings) -> int:
        return text_to_video_shape(settings).caption_channels

    def build(self, settings: Settings, *, dtype: str = "float32") -> "LatteT2V":
        """Not initialised if train.init_from is set, since that replaces all weights."""
        side = _side(settings)
        model = make_transformer(text_to_video_shape(settings), size=(side, side), dtype=dtype)
        if settings.train.init_from is None:
            self.initialise(model, settings.seed)
        return model

    def shell(self, settings: Settings, checkpoint: Path) -> "LatteT2V":
        shape = shape_next_to(checkpoint) or text_to_video_shape(settings)
        frames, timesteps = settings.data.num_frames, settings.diffusion.num_timesteps
        side = _side(settings)
        return make_transformer(replace(shape, num_frames=frames, num_timesteps=timesteps), size=(side, side))

    def initialise(self, model: Transformer, seed: int) -> None:
        from latte_cli.core.models.latte_t2v.transformer import initialise

        initialise(model, seed)

    def read(self, path: Path) -> Mapping[str, NDArray[Any]]:
        return LazyWeights(map_weights(open_weights(path, kind=self.layout), self.layout))


ARCHITECTURE = LatteT2VArchitecture()


def make_transformer(
    shape: TextToVideoShape,
    *,
    size: tuple[int, int],
    num_frames: int | None = None,
    dtype: str = "float32",
    stored: str = "float32",
) -> "LatteT2V":
    """The transformer, its parameters zero, of latent frames of `size` (height, width); see `LatteT2V`."""
    from latte_cli.core.models.latte_t2v.transformer import LatteT2V

    return LatteT2V(shape, size=size, num_frames=num_frames, dtype=dtype, stored=stored)


def _side(settings: Settings) -> int:
    """Height and width of a latent frame."""
    return settings.data.image_size // VAE_FACTOR
