"""The shape of a text-to-video transformer: what its `config.json` fixes, and how many numbers it holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latte_cli.core.errors import LatteError
from latte_cli.core.models.positions import TIMESTEP_CHANNELS

MLP_RATIO = 4  # diffusers' feed-forward
TABLE_SIZE = 64  # latent pixels, above which places are counted in whole multiples (PixArt-alpha)

# What the checkpoints of this kind share; another value would be another computation.
FIXED = {
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
}


@dataclass(frozen=True)
class TextToVideoShape:
    """A transformer's sizes, by the names that the rest of this program uses."""

    hidden_size: int
    depth: int
    """Pairs of a spatial and a temporal block."""
    num_heads: int
    patch_size: int
    caption_channels: int
    """Width of the text states it reads."""
    in_channels: int = 4
    out_channels: int = 8
    sample_size: int = 64
    """Height and width of a latent frame that it was trained on; others have their places scaled to it."""
    num_frames: int = 16
    num_timesteps: int = 1000
    attention_bias: bool = True

    @property
    def learn_sigma(self) -> bool:
        """Whether it predicts a variance beside the noise."""
        return self.out_channels == 2 * self.in_channels

    @property
    def interpolation_scale(self) -> int:
        """Cells of the token grid a unit of place."""
        return max(self.sample_size // TABLE_SIZE, 1)

    def parameters(self) -> int:
        """All numbers of a checkpoint; the position tables are computed, never stored."""
        width, patch = self.hidden_size, self.patch_size**2
        embedders = _dense(patch * self.in_channels, width) + _dense(self.caption_channels, width)
        embedders += _dense(TIMESTEP_CHANNELS, width) + 2 * _dense(width, width) + _dense(width, 6 * width)
        spatial = self.temporal_parameters() + self.depth * self._attention()
        last = 2 * width + _dense(width, patch * self.out_channels)
        return embedders + spatial + self.temporal_parameters() + last

    def temporal_parameters(self) -> int:
        """Numbers of the temporal blocks."""
        width = self.hidden_size
        feed_forward = _dense(width, MLP_RATIO * width) + _dense(MLP_RATIO * width, width)
        return self.depth * (self._attention() + feed_forward + 6 * width)

    def lora_parameters(self, rank: int) -> int:
        """Numbers of low-rank changes of every attention: two of a spatial block, one of a temporal one."""
        return 3 * self.depth * 4 * 2 * rank * self.hidden_size

    def _attention(self) -> int:
        width = self.hidden_size
        return 3 * (width * width + self.attention_bias * width) + _dense(width, width)

    def to_config(self) -> dict[str, Any]:
        """The `config.json` that diffusers and MindONE build the same transformer from."""
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


def shape_of_config(config: Mapping[str, Any], *, source: str) -> TextToVideoShape:
    """The shape that a diffusers `config.json` describes.

    Raises LatteError naming `source` for another kind of model, or one that computes something else.
    """
    kind = config.get("_class_name", "LatteTransformer3DModel")
    if kind not in ("LatteTransformer3DModel", "LatteT2V"):
        raise LatteError(f"{source}: found a {kind}, wanted a LatteTransformer3DModel")
    for name, wanted in FIXED.items():
        if config.get(name) != wanted:
            raise LatteError(f"{source}: {name}: found {config.get(name)!r}, wanted {wanted!r}")
    try:
        width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
        shape = TextToVideoShape(
            hidden_size=width,
            depth=int(config["num_layers"]),
            num_heads=int(config["num_attention_heads"]),
            patch_size=int(config["patch_size"]),
            caption_channels=int(config["caption_channels"]),
            in_channels=int(config["in_channels"]),
            out_channels=int(config.get("out_channels") or config["in_channels"]),
            sample_size=int(config["sample_size"]),
            num_frames=int(config.get("video_length") or 16),
            num_timesteps=int(config.get("num_embeds_ada_norm") or 1000),
            attention_bias=bool(config.get("attention_bias", False)),
        )
    except KeyError as error:
        raise LatteError(
            f"{source}: {error.args[0]} is missing; wanted it as in diffusers' config"
        ) from error
    except (TypeError, ValueError) as error:
        raise LatteError(f"{source}: found a size that is no whole number ({error})") from error
    text_width = config.get("cross_attention_dim")
    if text_width != width:
        raise LatteError(f"{source}: cross_attention_dim: found {text_width}, wanted the width, {width}")
    return shape


def _dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
