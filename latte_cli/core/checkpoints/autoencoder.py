"""Find and open the autoencoder of the setting vae.weights: its files, sizes and weights, in any format."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from latte_cli.core.checkpoints.folders import find_weights, is_index, read_index
from latte_cli.core.checkpoints.mapping import Mapped, map_weights
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.checkpoints.tensors import Shape
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import LATENT_CHANNELS, VAE_FACTOR
from latte_cli.core.storage.hub import is_name, name_of
from latte_cli.core.storage.json_files import Model, Size, read_json

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parents[2] / "assets" / "demo_autoencoder"
CONFIG_NAME = "config.json"
NORM_GROUPS = 32  # Stable Diffusion's autoencoder (Rombach et al. 2022); cannot be inferred from weights


class AutoencoderConfig(Model):
    """An autoencoder's `config.json`; the values it states must agree with the weights."""

    kind: Literal["AutoencoderKL"] = Field("AutoencoderKL", alias="_class_name")
    act_fn: Literal["silu"] = "silu"
    norm_num_groups: Size = NORM_GROUPS
    block_out_channels: tuple[Size, ...] | None = None
    layers_per_block: Size | None = None
    in_channels: Size | None = None
    out_channels: Size | None = None
    latent_channels: Size | None = None
    use_quant_conv: bool | None = None
    mid_block_add_attention: bool | None = None


@dataclass(frozen=True)
class AutoencoderFiles:
    """A weights file, or the index of its shards, and its config.json if there is one."""

    weights: Path
    config: Path | None

    @property
    def every_weight(self) -> tuple[Path, ...]:
        """The weights files. Raises LatteError if the index is malformed or a shard is missing."""
        return (self.weights, *(read_index(self.weights) if is_index(self.weights) else ()))


@dataclass(frozen=True)
class AutoencoderShape:
    """The sizes that define an AutoencoderKL, with diffusers' names."""

    block_out_channels: tuple[int, ...]
    layers_per_block: int
    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = LATENT_CHANNELS
    norm_num_groups: int = NORM_GROUPS
    use_quant_conv: bool = True
    mid_block_add_attention: bool = True


@dataclass(frozen=True)
class Autoencoder:
    """An autoencoder's sizes and its weights under diffusers' names, read on demand."""

    shape: AutoencoderShape
    mapped: Mapped

    @property
    def shapes(self) -> dict[str, Shape]:
        """Each tensor's shape by name."""
        return {name: tensor.shape for name, tensor in self.mapped.tensors.items()}

    def read(self, name: str) -> NDArray[np.float32]:
        """A tensor as float32. Raises LatteError if its checksum does not match."""
        return np.asarray(self.mapped.read(name), np.float32)


def find_autoencoder(weights: str | None) -> AutoencoderFiles:
    """Find the files of the setting vae.weights. Raises LatteError if there are none."""
    if weights is None:
        raise LatteError(f'vae.weights: not set; expected a file, a diffusers folder, or "{DEMO}"')
    path = DEMO_FOLDER if weights == DEMO else Path(weights).expanduser()
    if is_name(path):
        raise LatteError(f"vae.weights: {name_of(str(path))} is not in the cache of published weights")
    if not path.exists():
        raise LatteError(f'vae.weights: no file or folder {path}; expected an autoencoder, or "{DEMO}"')
    if path.is_dir():
        path = find_weights(path, "vae")
    return AutoencoderFiles(path, _config_next_to(path))


def open_autoencoder(weights: str | None) -> Autoencoder:
    """Open the autoencoder of the setting vae.weights without reading its weights.

    Raises LatteError if files are missing, damaged or of another model, or if it does not have 4 latent
    channels and a downsampling factor of 8.
    """
    files = find_autoencoder(weights)
    mapped = map_weights(open_weights(files.weights, kind="vae"), "vae")
    shape = _shape_of(mapped, files)
    factor = 2 ** (len(shape.block_out_channels) - 1)
    where = files.config or files.weights
    if factor != VAE_FACTOR:
        raise LatteError(f"{where}: found a downsampling factor of {factor}, expected {VAE_FACTOR}")
    if shape.latent_channels != LATENT_CHANNELS:
        raise LatteError(
            f"{where}: found {shape.latent_channels} latent channels, expected {LATENT_CHANNELS}"
        )
    return Autoencoder(shape, mapped)


def _shape_of(mapped: Mapped, files: AutoencoderFiles) -> AutoencoderShape:
    """The sizes inferred from the weights, and the norm groups, which only config.json states."""
    tensors = mapped.tensors
    sizes: dict[str, Any] = {
        **mapped.sizes,
        "in_channels": tensors["encoder.conv_in.weight"].shape[1],
        "out_channels": tensors["decoder.conv_out.weight"].shape[0],
        "use_quant_conv": "quant_conv.weight" in tensors,
        "mid_block_add_attention": "encoder.mid_block.attentions.0.to_q.weight" in tensors,
    }
    config = AutoencoderConfig() if files.config is None else read_json(files.config, AutoencoderConfig)
    for name, value in sizes.items():
        stated = getattr(config, name)
        if stated is not None and stated != value:
            raise LatteError(f"{files.config}: {name} is {stated}, the weights {files.weights} have {value}")
    groups, channels = config.norm_num_groups, sizes["block_out_channels"]
    if any(width % groups for width in channels):
        expected = f"expected a {CONFIG_NAME} next to it whose norm_num_groups divides them"
        place = files.config or files.weights
        raise LatteError(f"{place}: channels {channels}, norms of {groups}; {expected}")
    return AutoencoderShape(**sizes, norm_num_groups=groups)


def _config_next_to(path: Path) -> Path | None:
    """The config.json in a file's folder, if it is an autoencoder's."""
    beside = path.parent / CONFIG_NAME
    try:
        config = read_json(beside, dict[str, Any])
    except LatteError:
        return None
    return beside if config.get("_class_name") == "AutoencoderKL" else None
