"""Folders of weights: sharded checkpoints with an index, and the folders that diffusers writes."""

from pathlib import Path

from pydantic import Field

from latte_cli.core.checkpoints.limits import MAX_HEADER_BYTES, MAX_TENSORS, shown
from latte_cli.core.errors import LatteError
from latte_cli.core.storage.json_files import Model, read_json
from latte_cli.core.storage.names import FileName

CONFIG = "config.json"  # beside a part's weights
_PIPELINE_PARTS = {"vae": "vae", "t2v": "transformer"}
_INDEX_SUFFIX = ".index.json"
# Best first: safetensors before pickles, full precision before variants.
_PATTERNS = (
    "*.safetensors.index.json",
    "*.bin.index.json",
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.ckpt",
    "model.ckpt",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
    "diffusion_pytorch_model.*.safetensors",
    "*.safetensors",
    "*.ckpt",
    "*.bin",
)


def is_pipeline(path: Path) -> bool:
    """Whether a folder is a whole pipeline in the layout of diffusers."""
    return (path / "model_index.json").is_file()


def find_weights(folder: Path, kind: str = "auto") -> Path:
    """The file of weights, or the index of its shards, in a diffusers model folder or pipeline.

    kind: which part of a pipeline: "vae", "t2v" or "auto". Raises LatteError when nothing, or no one thing,
    fits.
    """
    if (folder / "model_index.json").exists():
        parts = {name: folder / part for name, part in _PIPELINE_PARTS.items() if (folder / part).is_dir()}
        if kind == "auto" and len(parts) > 1:
            raise LatteError(
                f"{folder}: a pipeline of several models; say which with --kind {' or --kind '.join(parts)}"
            )
        if kind != "auto" and kind not in parts:
            raise LatteError(f"{folder}: the pipeline has no part of kind {kind}")
        folder = next(iter(parts.values()), folder) if kind == "auto" else parts[kind]
    for pattern in _PATTERNS:
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            raise LatteError(f"{folder}: holds {found[0].name} and {found[1].name}; name one of them")
        if found:
            return found[0]
    raise LatteError(
        f"{folder}: a folder without weights; expected diffusion_pytorch_model.safetensors or its like"
    )


def is_index(path: Path) -> bool:
    """Whether a file is the index of a sharded checkpoint, by its name: JSON has no other mark."""
    return path.name.endswith(_INDEX_SUFFIX)


class _Index(Model):
    """Which file beside it holds each tensor."""

    weight_map: dict[str, FileName] = Field(min_length=1, max_length=MAX_TENSORS)


def read_index(path: Path) -> dict[Path, list[str]]:
    """The shards of an index and the names that each must hold.

    Raises LatteError when the index is malformed, names anything but files beside it, or one is missing.
    """
    shards: dict[Path, list[str]] = {}
    for name, file in read_json(path, _Index, most=MAX_HEADER_BYTES).weight_map.items():
        shards.setdefault(path.parent / file, []).append(name)
    for shard in shards:
        if not shard.is_file():
            raise LatteError(f"{path}: its part {shown(shard.name)} is missing")
    return shards
