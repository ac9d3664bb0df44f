"""The shape of a text-to-video transformer, its `config.json`, and its numbers of parameters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from latte_cli.core.checkpoints.layouts.matching import TIMESTEP_CHANNELS
from latte_cli.core.errors import LatteError, found
from latte_cli.core.models.sizes import linear
from latte_cli.core.storage.json_files import Model, Size, read_json

MLP_RATIO = 4  # of diffusers' feed-forward
TABLE_SIZE = 64  # latent pixels; larger sizes scale positions by their integer multiple (PixArt-alpha)

# Values shared by all checkpoints of this architecture; others would change the computation.
FIXED = {
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
}


@dataclass(frozen=True)
class TextToVideoShape:
    """A transformer's sizes, by this program's names."""

    hidden_size: int
    depth: int
    """Number of pairs of a spatial and a temporal block."""
    num_heads: int
    patch_size: int
    caption_channels: int
    """Width of the text states."""
    in_channels: int = 4
    out_channels: int = 8
    sample_size: int = 64
    """Height and width of latent frames in training; positions of other sizes are scaled to it."""
    num_frames: int = 16
    num_timesteps: int = 1000
    attention_bias: bool = True

    @property
    def learn_sigma(self) -> bool:
        """Whether it predicts a variance in addition to the noise."""
        return self.out_channels == 2 * self.in_channels

    @property
    def interpolation_scale(self) -> int:
        """Cells of the token grid per unit of position."""
        return max(self.sample_size // TABLE_SIZE, 1)

    def parameters(self) -> int:
        """Number of all parameters; position tables are computed, not stored."""
        width, patch = self.hidden_size, self.patch_size**2
        embedders = linear(patch * self.in_channels, width) + linear(self.caption_channels, width)
        embedders += linear(TIMESTEP_CHANNELS, width) + 2 * linear(width, width) + linear(width, 6 * width)
        spatial = self.temporal_parameters() + self.depth * self._attention()
        last = 2 * width + linear(width, patch * self.out_channels)
        return embedders + spatial + self.temporal_parameters() + last

    def temporal_parameters(self) -> int:
        """Number of parameters of the temporal blocks."""
        width = self.hidden_size
        feed_forward = linear(width, MLP_RATIO * width) + linear(MLP_RATIO * width, width)
        return self.depth * (self._attention() + feed_forward + 6 * width)

    def lora_parameters(self, rank: int) -> int:
        """Number of LoRA parameters: two attentions per spatial block, one per temporal block."""
        return 3 * self.depth * 4 * 2 * rank * self.hidden_size

    def _attention(self) -> int:
        width = self.hidden_size
        return 3 * (width * width + self.attention_bias * width) + linear(width, width)

    def to_config(self) -> dict[str, Any]:
        """The `config.json` of the same transformer for diffusers and MindONE."""
        return {
            "_class_name": "LatteTransformer3DModel",
            **FIXED,
            "num_attention_heads": self.num_heads,
            "attention_head_dim": self.hidden_size // self.num_heads,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "num_layers": self.depth,
            "dropout": 0.0,
            "cross_attention_dim": self.hidden_size,
            "attention_bias": self.attention_bias,
            "sample_size": self.sample_size,
            "patch_size": self.patch_size,
            "num_embeds_ada_norm": self.num_timesteps,
            "caption_channels": self.caption_channels,
            "video_length": self.num_frames,
        }


class TransformerConfig(Model):
    """The fields of diffusers' `config.json` that define the computation."""

    kind: Literal["LatteTransformer3DModel", "LatteT2V"] = Field(
        "LatteTransformer3DModel", alias="_class_name"
    )
    activation_fn: Literal["gelu-approximate"]
    norm_type: Literal["ada_norm_single"]
    norm_elementwise_affine: Literal[False]
    norm_eps: float
    num_attention_heads: Size
    attention_head_dim: Size
    num_layers: Size
    patch_size: Size
    caption_channels: Size
    cross_attention_dim: Size
    in_channels: Size
    out_channels: Size | None = None
    sample_size: Size
    video_length: Size | None = None
    num_embeds_ada_norm: Size | None = None
    attention_bias: bool = False

    def shape(self) -> TextToVideoShape:
        """The sizes, by this program's names."""
        return TextToVideoShape(
            hidden_size=self.num_attention_heads * self.attention_head_dim,
            depth=self.num_layers,
            num_heads=self.num_attention_heads,
            patch_size=self.patch_size,
            caption_channels=self.caption_channels,
            in_channels=self.in_channels,
            out_channels=self.out_channels or self.in_channels,
            sample_size=self.sample_size,
            num_frames=self.video_length or 16,
            num_timesteps=self.num_embeds_ada_norm or 1000,
            attention_bias=self.attention_bias,
        )


def read_shape(path: Path) -> TextToVideoShape:
    """Read the shape from a diffusers `config.json`.

    Raises LatteError naming the file if it describes another model or another computation.
    """
    config = read_json(path, TransformerConfig, missing="the folder is incomplete")
    shape = config.shape()
    for name, value, expected in (
        ("norm_eps", config.norm_eps, FIXED["norm_eps"]),
        ("cross_attention_dim", config.cross_attention_dim, shape.hidden_size),
    ):
        if value != expected:
            raise LatteError(f"{path}: {name}: {found(value, str(expected))}")
    return shape
