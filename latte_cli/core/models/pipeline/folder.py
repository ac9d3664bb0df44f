"""A text-to-video pipeline folder in diffusers' layout, checked by reading only its small files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latte_cli.core.checkpoints.folders import CONFIG
from latte_cli.core.checkpoints.mapping import Mapped
from latte_cli.core.errors import LatteError, found
from latte_cli.core.latents import SCALING_FACTOR, VAE_FACTOR
from latte_cli.core.models.latte_t2v.shape import TextToVideoShape, read_shape
from latte_cli.core.models.pipeline.configs import SchedulerConfig, VaeConfig, model_evaluations
from latte_cli.core.models.text.folder import TextFolder, find_text_encoder, part_files, text_files
from latte_cli.core.storage.json_files import read_json

SIZES = ("hidden_size", "depth", "patch_size", "caption_channels", "out_channels")  # known from weights
PARTS = ("transformer", "text_encoder", "tokenizer", "vae", "scheduler")
PUBLISHED = "hf://maxin-cn/Latte-1"
INCOMPLETE = "the folder is incomplete"


@dataclass(frozen=True)
class PipelineFolder:
    """A complete pipeline whose parts are compatible."""

    path: Path
    shape: TextToVideoShape
    text: TextFolder
    scheduler: Mapping[str, Any]
    """The `scheduler_config.json`."""
    scaling_factor: float
    """Scaling factor of the autoencoder's latents."""

    @property
    def transformer(self) -> Path:
        return self.path / "transformer"

    @property
    def vae(self) -> Path:
        return self.path / "vae"

    @property
    def temporal_decoder(self) -> Path:
        return self.path / "vae_temporal_decoder"

    def evaluations(self, sampler: str | None, steps: int) -> int:
        """How often the transformer is evaluated, by one of our samplers or the pipeline's scheduler."""
        return steps if sampler else model_evaluations(self.scheduler, steps)


def open_pipeline(folder: Path | None, *, decodes: bool = True) -> PipelineFolder:
    """Open a pipeline folder without reading weights. The autoencoder is required if `decodes`.

    Raises LatteError naming the file if the folder is missing or contains another kind of pipeline, if a part
    or tokenizer file is missing, or if the parts are not compatible.
    """
    if folder is None or not folder.is_dir():
        reason = "no --pipeline was given" if folder is None else f"{folder}: no such folder"
        raise LatteError(f"{reason}; to sample from a prompt, give --pipeline {PUBLISHED}")
    read_index(folder)
    for part in PARTS:
        if part == "vae" and not decodes:
            continue
        if not (folder / part).is_dir():
            raise LatteError(f"{folder / part}: no such folder; the pipeline is incomplete")
    config = folder / "transformer" / "config.json"
    shape = read_shape(config)
    text = find_text_encoder(folder)
    if text.kind != "t5" or text.width != shape.caption_channels:
        expected = f"expected a t5 encoder of width {shape.caption_channels}"
        raise LatteError(f"{text.encoder}: found a {text.kind} encoder of width {text.width}, {expected}")
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json", SchedulerConfig, missing=INCOMPLETE)
    scaling_factor = _check_vae(folder / "vae" / "config.json", shape) if decodes else SCALING_FACTOR
    return PipelineFolder(folder, shape, text, scheduler.model_dump(exclude_unset=True), scaling_factor)


def read_index(folder: Path) -> dict[str, Any]:
    """Read a pipeline's `model_index.json`. Raises LatteError if it is missing or of another kind."""
    path = folder / "model_index.json"
    index = read_json(path, dict[str, Any], missing=f"expected a pipeline folder, such as {PUBLISHED}")
    if (kind := index.get("_class_name")) != "LattePipeline":
        raise LatteError(f"{path}: {found(kind, 'LattePipeline')}")
    return index


def check_sizes(mapped: Mapped, known: TextToVideoShape, source: str) -> None:
    """Raise LatteError if a transformer's weights do not have the `known` sizes, from `source`."""
    for name in SIZES:
        mine, theirs = mapped.sizes[name], getattr(known, name)
        if mine != theirs:
            raise LatteError(f"{mapped.weights.path}: {name}: found {mine}, expected {source}, {theirs}")


def pipeline_files(pipeline: PipelineFolder, *, decoder: Path | None) -> list[Path]:
    """The files that determine a clip; includes those of `decoder` unless None.

    Raises LatteError if weights are missing.
    """
    files = [pipeline.path / "scheduler" / "scheduler_config.json", *part_files(pipeline.transformer)]
    return files + text_files(pipeline.text) + ([] if decoder is None else part_files(decoder))


def temporal_scaling_factor(pipeline: PipelineFolder) -> float:
    """The scaling factor of the temporal decoder. Raises LatteError if its config.json cannot be read."""
    return _check_vae(pipeline.temporal_decoder / CONFIG, pipeline.shape)


def _check_vae(path: Path, shape: TextToVideoShape) -> float:
    """Check that an autoencoder fits the transformer; return its scaling factor."""
    config = read_json(path, VaeConfig, missing=INCOMPLETE)
    factor = 2 ** (len(config.block_out_channels) - 1)
    if factor != VAE_FACTOR:
        raise LatteError(f"{path}: found a downsampling factor of {factor}, expected {VAE_FACTOR}")
    if config.latent_channels != shape.in_channels:
        raise LatteError(
            f"{path}: found {config.latent_channels} latent channels, expected the transformer's"
            f" {shape.in_channels}"
        )
    return config.scaling_factor or SCALING_FACTOR
