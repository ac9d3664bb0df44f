"""Folders of weights: sharded checkpoints with an index, and diffusers' folders."""

import fnmatch
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from latte_cli.core.checkpoints.limits import MAX_HEADER_BYTES, MAX_TENSORS, shown
from latte_cli.core.errors import LatteError
from latte_cli.core.storage.json_files import Model, read_json
from latte_cli.core.storage.names import FileName

CONFIG = "config.json"  # next to a model's weights
_PIPELINE_PARTS = {"vae": "vae", "t2v": "transformer"}
INDEX_SUFFIX = ".index.json"
# In order of preference: safetensors before pickles, full precision before variants.
_PATTERNS = (
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors.index.json",
    "*.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "*.bin.index.json",
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
    """Whether a folder is a pipeline in diffusers' layout."""
    return (path / "model_index.json").is_file()


def find_weights(folder: Path, kind: str = "auto") -> Path:
    """The weights file, or the index of its shards, in a diffusers model folder or pipeline.

    kind: the model of a pipeline: "vae", "t2v" or "auto". Raises LatteError if none, or more than one, is
    found.
    """
    if (folder / "model_index.json").exists():
        parts = {name: folder / part for name, part in _PIPELINE_PARTS.items() if (folder / part).is_dir()}
        if kind == "auto" and len(parts) > 1:
            raise LatteError(
                f"{folder}: a pipeline of several models; choose one with --kind {' or --kind '.join(parts)}"
            )
        if kind != "auto" and kind not in parts:
            raise LatteError(f"{folder}: the pipeline has no model of kind {kind}")
        folder = next(iter(parts.values()), folder) if kind == "auto" else parts[kind]
    return folder / choose_weights([path.name for path in folder.iterdir()], str(folder))


def choose_weights(names: Iterable[str], folder: str) -> str:
    """The best of a folder's weights files and indices of shards. Raises LatteError like `find_weights`."""
    names = sorted(names)
    for pattern in _PATTERNS:
        found = fnmatch.filter(names, pattern)
        if len(found) > 1:
            raise LatteError(f"{folder}: contains {found[0]} and {found[1]}; give one of them")
        if found:
            return found[0]
    raise LatteError(
        f"{folder}: a folder without weights; expected diffusion_pytorch_model.safetensors or similar"
    )


def is_index(path: Path) -> bool:
    """Whether a file is the index of a sharded checkpoint, judged by its name."""
    return path.name.endswith(INDEX_SUFFIX)


class _Index(Model):
    """Maps each tensor to a file in the same folder."""

    weight_map: dict[str, FileName] = Field(min_length=1, max_length=MAX_TENSORS)


def read_index(path: Path) -> dict[Path, list[str]]:
    """The shards of an index and the names of the tensors in each.

    Raises LatteError if the index is malformed, refers to files outside its folder, or a shard is missing.
    """
    shards: dict[Path, list[str]] = {}
    for name, file in read_json(path, _Index, most=MAX_HEADER_BYTES).weight_map.items():
        shards.setdefault(path.parent / file, []).append(name)
    for shard in shards:
        if not shard.is_file():
            raise LatteError(f"{path}: its shard {shown(shard.name)} is missing")
    return shards
