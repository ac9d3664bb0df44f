"""The architecture channel-mixer: one residual matrix product over the channels of each latent pixel."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.models.architecture import Architecture, Transformer
from latte_cli.core.models.latte.shape import LatteShape, resolve_model
from latte_cli.core.models.sizes import ModelSize
from latte_cli.core.settings.schema import Settings


class ChannelMixerArchitecture(Architecture):
    """See `models.channel_mixer.transformer`."""

    presets = MappingProxyType({"Mixer": ModelSize(hidden_size=4, depth=2, num_heads=1, patch_size=1)})
    preset_names = "Mixer"
    text_kind = "clip"

    def sizes(self, settings: Settings) -> LatteShape:
        size = self.presets["Mixer"]._asdict()
        return resolve_model(settings.model_copy(update={"model": settings.model.model_copy(update=size)}))

    def text_width(self, settings: Settings) -> int:
        return 1

    def build(self, settings: Settings, *, dtype: str = "float32") -> Transformer:
        model = self.shell(settings, Path())
        self.initialise(model, settings.seed)
        return model

    def shell(self, settings: Settings, checkpoint: Path) -> Transformer:
        from latte_cli.core.models.channel_mixer.transformer import ChannelMixer

        return ChannelMixer(self.sizes(settings), num_timesteps=settings.diffusion.num_timesteps)

    def initialise(self, model: Transformer, seed: int) -> None:
        from latte_cli.core.models.channel_mixer.transformer import initialise

        initialise(model, seed)

    def read(self, path: Path) -> Mapping[str, NDArray[Any]]:
        weights = open_weights(path)
        return {name: weights.read(name) for name in weights.names}


ARCHITECTURE = ChannelMixerArchitecture()
