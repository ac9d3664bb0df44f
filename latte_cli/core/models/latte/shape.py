"""The resolved shape of a transformer: everything that defines its tensors, and their numbers of elements."""

from dataclasses import dataclass
from typing import Literal

from latte_cli.core.checkpoints.layouts.matching import TIMESTEP_CHANNELS
from latte_cli.core.latents import LATENT_CHANNELS, VAE_FACTOR
from latte_cli.core.models.latte.presets import PRESETS
from latte_cli.core.models.sizes import linear, model_size
from latte_cli.core.settings.schema import Settings

TEXT_FEATURES = 77 * 768  # CLIP's tokens times their width, flattened, as in the original


@dataclass(frozen=True)
class LatteShape:
    """A transformer's sizes, fully resolved."""

    hidden_size: int
    depth: int
    num_heads: int
    patch_size: int
    mlp_ratio: float = 4.0
    in_channels: int = LATENT_CHANNELS
    sample_size: int = 32
    """Height and width of a latent frame."""
    num_frames: int = 16
    condition: Literal["none", "class", "text"] = "none"
    num_classes: int | None = None
    condition_dropout: float = 0.1
    learn_sigma: bool = True
    patch_embedder: Literal["conv", "linear"] = "conv"

    @property
    def out_channels(self) -> int:
        """Predicted channels: the noise and, if learned, the variance."""
        return self.in_channels * (2 if self.learn_sigma else 1)

    @property
    def mlp_size(self) -> int:
        """Width of a block's hidden layer."""
        return int(self.hidden_size * self.mlp_ratio)

    @property
    def tokens(self) -> int:
        """Tokens per frame."""
        return (self.sample_size // self.patch_size) ** 2

    @property
    def text_tokens(self) -> int:
        """Text tokens in cross-attention: none, the text conditions the normalisation."""
        return 0

    def position_parameters(self) -> int:
        """Elements of the two position tables, which are loaded or computed but never trained."""
        return (self.tokens + self.num_frames) * self.hidden_size

    def trained_parameters(self) -> int:
        """Number of trained parameters."""
        width, patch = self.hidden_size, self.patch_size**2
        embedders = (
            linear(patch * self.in_channels, width) + linear(TIMESTEP_CHANNELS, width) + linear(width, width)
        )
        if self.condition == "class":
            embedders += ((self.num_classes or 0) + 1) * width  # one more row for the null label
        if self.condition == "text":
            embedders += linear(TEXT_FEATURES, width)
        attention = linear(width, 3 * width) + linear(width, width)
        mlp = linear(width, self.mlp_size) + linear(self.mlp_size, width)
        block = attention + mlp + linear(width, 6 * width)
        final = linear(width, patch * self.out_channels) + linear(width, 2 * width)
        return embedders + self.depth * block + final

    def parameters(self) -> int:
        """Number of all parameters, including position tables."""
        return self.trained_parameters() + self.position_parameters()


def resolve_model(settings: Settings) -> LatteShape:
    """The transformer's shape for an experiment's settings.

    Raises LatteError if the model section does not define all sizes, see `model_size`.
    """
    model = settings.model
    return LatteShape(
        **model_size(model, PRESETS)._asdict(),
        mlp_ratio=model.mlp_ratio,
        sample_size=settings.data.image_size // VAE_FACTOR,
        num_frames=settings.data.num_frames,
        condition=model.condition,
        num_classes=model.num_classes,
        condition_dropout=model.condition_dropout,
        learn_sigma=model.learn_sigma,
        patch_embedder=model.patch_embedder,
    )
