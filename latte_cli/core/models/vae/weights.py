"""Where an autoencoder's weights are and what they are: found and checked without MindSpore."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.errors import LatteError

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parents[3] / "assets" / "demo_autoencoder"
FACTOR = 8
"""Pixels of a frame's side to one of its latents': three halvings."""
LATENT_CHANNELS = 4
NORM_GROUPS = 32
"""Of Stable Diffusion's autoencoder (Rombach et al. 2022); weights do not tell it."""
CONFIG_NAME = "config.json"
WEIGHTS_NAMES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.ckpt", "model.ckpt")
PYTORCH_SUFFIXES = (".bin", ".pt", ".pth")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Source:
    """A file of weights with diffusers' names, and its config.json if it has one."""

    weights: Path
    config: Path | None


def find_source(weights: str | None) -> Source:
    """Find the files that the setting vae.weights means. Raises LatteError when there are none."""
    if weights is None:
        raise LatteError(f'vae.weights: not set; wanted a file, a diffusers folder, or "{DEMO}"')
    path = DEMO_FOLDER if weights == DEMO else Path(weights).expanduser()
    if path.is_dir():
        return Source(_weights_in(path), _wanted(path / CONFIG_NAME))
    if not path.exists():
        raise LatteError(f'vae.weights: no file or folder {path}; wanted an autoencoder, or "{DEMO}"')
    if path.suffix in PYTORCH_SUFFIXES:
        raise LatteError(f"vae.weights: {path} is a PyTorch file; {_convert(path)}")
    if path.suffix not in (".safetensors", ".ckpt"):
        raise LatteError(f"vae.weights: found {path}, wanted .safetensors, .ckpt or a diffusers folder")
    return Source(path, _config_beside(path))


def read_config(source: Source, shapes: Shapes | None) -> dict[str, Any] | None:
    """Give AutoencoderKL's arguments, from config.json or the weights' shapes; None when neither is known.

    Raises LatteError unless it makes 4 latent channels at an eighth of a frame's side.
    """
    if source.config is not None:
        config = _parsed(source.config)
    elif shapes is not None:
        config = _config_of(shapes, source.weights)
    else:
        return None
    where = source.config or source.weights
    channels = config.get("block_out_channels")
    if not isinstance(channels, list) or not all(isinstance(width, int) for width in channels):
        raise LatteError(f"{where}: block_out_channels is {channels}, wanted a list of widths")
    if 2 ** (len(channels) - 1) != FACTOR:
        raise LatteError(
            f"{where}: this autoencoder shrinks a frame's side by {2 ** (len(channels) - 1)}, wanted {FACTOR}"
        )
    if config.get("latent_channels", LATENT_CHANNELS) != LATENT_CHANNELS:
        raise LatteError(
            f"{where}: found {config['latent_channels']} latent channels, wanted {LATENT_CHANNELS}"
        )
    return config


def read_shapes(path: Path) -> dict[str, tuple[int, ...]] | None:
    """Give every tensor's shape by name from a safetensors header; None for .ckpt, which takes MindSpore."""
    if path.suffix == ".ckpt":
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise LatteError(f"{path}: not a whole safetensors file: {error}") from error
    check_names(path, shapes)
    return shapes


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read every tensor as float32 by its name. Raises LatteError for torn files and other layouts."""
    try:
        if path.suffix == ".ckpt":
            import mindspore as ms

            tensors = {
                name: value.asnumpy() if value.dtype != ms.bfloat16 else value.float().asnumpy()
                for name, value in ms.load_checkpoint(str(path)).items()
            }
        else:
            from safetensors.numpy import load_file

            tensors = load_file(path)
    except Exception as error:  # both libraries raise whatever their parsers raise
        raise LatteError(f"{path}: cannot be read as weights ({error}); {_convert(path)}") from error
    check_names(path, tensors)
    return {name: np.asarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}


def check_names(path: Path, names: Iterable[str]) -> None:
    """Raise LatteError when weights go by the names of an older or of the original layout."""
    for name in names:
        if re.search(r"attentions\.\d+\.(query|key|value|proj_attn)\.", name):
            raise LatteError(f"{path}: attention weights have the names of old diffusers; {_convert(path)}")
        if name.startswith("first_stage_model.") or re.match(r"(encoder|decoder)\.(down|up|mid)\.", name):
            raise LatteError(f"{path}: weights have Stable Diffusion's original names; {_convert(path)}")


def check_shapes(path: Path, found: Shapes, wanted: Shapes) -> None:
    """Raise LatteError naming the first tensor that is missing, unknown or of another shape."""
    for kind, names in (
        ("lacks", wanted.keys() - found.keys()),
        ("has unknown", found.keys() - wanted.keys()),
    ):
        if names:
            first = next(name for name in (*wanted, *found) if name in names)
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise LatteError(f"{path}: {kind} {first}{more}; wanted the {len(wanted)} of its configuration")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise LatteError(f"{path}: {name} is {found[name]}, wanted {shape}")


def _config_of(shapes: Shapes, path: Path) -> dict[str, Any]:
    """What shapes tell of AutoencoderKL's arguments; the number of norm groups is Stable Diffusion's."""

    def count(pattern: str) -> int:
        return len({match[0] for name in shapes if (match := re.match(pattern, name))})

    blocks = count(r"encoder\.down_blocks\.\d+\.")
    try:
        channels = [shapes[f"encoder.down_blocks.{i}.resnets.0.conv1.weight"][0] for i in range(blocks)]
        sides = {"in": shapes["encoder.conv_in.weight"][1], "out": shapes["decoder.conv_out.weight"][0]}
        latent_channels = shapes["decoder.conv_in.weight"][1]
    except (KeyError, IndexError) as error:
        raise LatteError(f"{path}: lacks {error}; wanted an autoencoder's weights") from error
    if any(width % NORM_GROUPS for width in channels):
        raise LatteError(
            f"{path}: channels {channels} are unlike Stable Diffusion's; wanted {CONFIG_NAME} beside it"
        )
    return {
        "in_channels": sides["in"],
        "out_channels": sides["out"],
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "block_out_channels": channels,
        "layers_per_block": count(r"encoder\.down_blocks\.0\.resnets\.\d+\."),
        "latent_channels": latent_channels,
        "norm_num_groups": NORM_GROUPS,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "mid_block_add_attention": count(r"encoder\.mid_block\.attentions\.") > 0,
    }


def _parsed(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LatteError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(config, dict) or config.get("_class_name", "AutoencoderKL") != "AutoencoderKL":
        found = config.get("_class_name") if isinstance(config, dict) else type(config).__name__
        raise LatteError(f"{path}: found the configuration of {found}, wanted AutoencoderKL")
    return config


def _config_beside(path: Path) -> Path | None:
    """The config.json in a file's folder, if it is an autoencoder's."""
    beside = path.parent / CONFIG_NAME
    try:
        config = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return beside if isinstance(config, dict) and config.get("_class_name") == "AutoencoderKL" else None


def _weights_in(folder: Path) -> Path:
    for name in WEIGHTS_NAMES:
        if (folder / name).is_file():
            return folder / name
    for path in sorted(folder.iterdir()):
        if path.suffix in PYTORCH_SUFFIXES:
            raise LatteError(f"vae.weights: {path} is a PyTorch file; {_convert(folder)}")
    raise LatteError(f"vae.weights: {folder} holds no autoencoder; wanted {' or '.join(WEIGHTS_NAMES)}")


def _wanted(path: Path) -> Path:
    if not path.is_file():
        raise LatteError(f"vae.weights: no file {path}; wanted a diffusers folder's {CONFIG_NAME}")
    return path


def _convert(path: Path) -> str:
    return f"run latte convert --source {path} --kind vae"
