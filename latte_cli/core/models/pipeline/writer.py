"""Assemble a pipeline folder from a transformer and the other parts of an existing folder."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latte_cli.core.checkpoints.mapping import Mapped
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.checkpoints.save import save_weights
from latte_cli.core.errors import LatteError
from latte_cli.core.models.latte_t2v.shape import TextToVideoShape, read_shape
from latte_cli.core.models.pipeline.folder import check_sizes, open_pipeline, read_index
from latte_cli.core.models.text.folder import find_text_encoder
from latte_cli.core.storage.files import atomic_folder, write_file

TAKEN = ("text_encoder", "tokenizer", "vae", "scheduler")
INDEX = {
    "_class_name": "LattePipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "T5Tokenizer"],
    "transformer": ["diffusers", "LatteTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
# Latte-1's, used if the existing folder has none.
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "timestep_spacing": "leading",
}
LATTE_1 = TextToVideoShape(hidden_size=1152, depth=28, num_heads=16, patch_size=2, caption_channels=4096)


def write_pipeline(
    target: Path, mapped: Mapped, parts: Path, *, dtype: str | None = None, force: bool = False
) -> None:
    """Assemble a pipeline from the transformer `mapped` and the text encoder, tokenizer etc. of `parts`.

    Files are hard-linked if possible, else copied. The folder appears complete or not at all. Raises
    LatteError if a part is missing or does not fit, or if the folder cannot be written.
    """
    check_parts(target, mapped, parts)
    with atomic_folder(target, force=force) as partial:
        for part in (*TAKEN, "vae_temporal_decoder"):
            if (parts / part).is_dir():
                _take(parts / part, partial / part)
        if not (partial / "scheduler").is_dir():
            (partial / "scheduler").mkdir()
            write_json(partial / "scheduler" / "scheduler_config.json", SCHEDULER)
        write_json(partial / "model_index.json", _index(parts))
        transformer = partial / "transformer"
        write_json(transformer / "config.json", _shape(mapped, parts).to_config())
        _check(partial, target)
        weights = transformer / "diffusion_pytorch_model.safetensors"
        save_weights(weights, mapped.tensors, dtype=dtype, finite=True, source=mapped.weights.path)


def check_parts(target: Path, mapped: Mapped, parts: Path) -> None:
    """Raise LatteError if a pipeline cannot be assembled from these parts."""
    if not parts.is_dir():
        raise LatteError(f"--pipeline-from: {parts}: no such folder")
    if target.exists() and target.samefile(parts):
        raise LatteError(f"{target}: is --pipeline-from itself; give another --target")
    for path in (parts, mapped.weights.path):  # an existing target is removed
        if path.resolve().is_relative_to(target.resolve()):
            raise LatteError(f"{target}: contains {path}; give another --target")
    for part in TAKEN:
        if part != "scheduler" and not (parts / part).is_dir():
            raise LatteError(f"--pipeline-from: {parts / part}: no such folder")
    for folder in (find_text_encoder(parts).encoder, parts / "vae"):
        open_weights(folder)
    _index(parts)
    _shape(mapped, parts)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a small JSON file, formatted as in diffusers."""
    write_file(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def _index(parts: Path) -> Mapping[str, Any]:
    """The `model_index.json` of `parts`, else Latte-1's. Raises LatteError for another kind of pipeline."""
    return read_index(parts) if (parts / "model_index.json").is_file() else INDEX


def _shape(mapped: Mapped, parts: Path) -> TextToVideoShape:
    """The sizes known from the weights; others, such as the number of heads, from `parts` or Latte-1."""
    config = parts / "transformer" / "config.json"
    known, source = LATTE_1, "Latte-1's"
    if config.is_file():
        known, source = read_shape(config), f"that of {config}"
    try:
        check_sizes(mapped, known, source)
    except LatteError as error:
        hint = "the number of heads is read from transformer/config.json in --pipeline-from"
        raise LatteError(f"{error}: {hint}") from error
    return known


def _take(source: Path, target: Path) -> None:
    """Hard-link a folder's files, or copy them if they cannot be linked, for example to another disk."""
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_file():
            try:
                os.link(path.resolve(), target / path.name)
            except OSError:
                shutil.copyfile(path, target / path.name)


def _check(partial: Path, target: Path) -> None:
    """Raise LatteError if the assembled pipeline is not valid."""
    try:
        open_pipeline(partial)
    except LatteError as error:
        raise LatteError(str(error).replace(str(partial), str(target))) from error
