"""A text-to-video pipeline as diffusers saves it: what is in the folder, checked by its small files alone."""

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

SIZES = ("hidden_size", "depth", "patch_size", "caption_channels", "out_channels")  # that weights tell
PARTS = ("transformer", "text_encoder", "tokenizer", "vae", "scheduler")
WHAT_TO_DOWNLOAD = (
    "download maxin-cn/Latte-1 (huggingface-cli download maxin-cn/Latte-1 --local-dir models/Latte-1)"
)

NOT_WHOLE = "the folder is not whole"


@dataclass(frozen=True)
class PipelineFolder:
    """A pipeline whose parts are there and fit one another."""

    path: Path
    shape: TextToVideoShape
    text: TextFolder
    scheduler: Mapping[str, Any]
    """Its `scheduler_config.json`."""
    scaling_factor: float
    """Of the autoencoder's latents."""

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
    """Look into a pipeline folder; no weights are read. Its autoencoder is looked for if it `decodes`.

    Raises LatteError naming the file at fault: a folder that is missing or holds another kind of pipeline, a
    part or tokenizer file that is missing, or parts that do not fit one another.
    """
    if folder is None or not folder.is_dir():
        reason = "no --pipeline was given" if folder is None else f"{folder}: no such folder"
        raise LatteError(
            f"{reason}; to sample from a prompt, {WHAT_TO_DOWNLOAD} and give --pipeline models/Latte-1"
        )
    read_index(folder)
    for part in PARTS:
        if part == "vae" and not decodes:
            continue
        if not (folder / part).is_dir():
            raise LatteError(f"{folder / part}: no such folder; the pipeline is not whole")
    config = folder / "transformer" / "config.json"
    shape = read_shape(config)
    text = find_text_encoder(folder)
    if text.kind != "t5" or text.width != shape.caption_channels:
        expected = f"expected a t5 encoder of width {shape.caption_channels}"
        raise LatteError(f"{text.encoder}: found a {text.kind} encoder of width {text.width}, {expected}")
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json", SchedulerConfig, missing=NOT_WHOLE)
    scaling_factor = _check_vae(folder / "vae" / "config.json", shape) if decodes else SCALING_FACTOR
    return PipelineFolder(folder, shape, text, scheduler.model_dump(exclude_unset=True), scaling_factor)


def read_index(folder: Path) -> dict[str, Any]:
    """The `model_index.json` of a pipeline. Raises LatteError for another kind of pipeline, or none."""
    path = folder / "model_index.json"
    index = read_json(path, dict[str, Any], missing=f"expected a pipeline folder: {WHAT_TO_DOWNLOAD}")
    if (kind := index.get("_class_name")) != "LattePipeline":
        raise LatteError(f"{path}: {found(kind, 'LattePipeline')}")
    return index


def check_sizes(mapped: Mapped, known: TextToVideoShape, source: str) -> None:
    """Raise LatteError when a transformer's weights are of other sizes than those `known` of `source`."""
    for name in SIZES:
        mine, theirs = mapped.sizes[name], getattr(known, name)
        if mine != theirs:
            raise LatteError(f"{mapped.weights.path}: {name}: found {mine}, expected {source}, {theirs}")


def pipeline_files(pipeline: PipelineFolder, *, decoder: Path | None) -> list[Path]:
    """The files that a clip is made from, those of its `decoder` among them where it becomes frames.

    Raises LatteError when weights are missing.
    """
    files = [pipeline.path / "scheduler" / "scheduler_config.json", *part_files(pipeline.transformer)]
    return files + text_files(pipeline.text) + ([] if decoder is None else part_files(decoder))


def temporal_scaling_factor(pipeline: PipelineFolder) -> float:
    """The scaling factor of the temporal decoder. Raises LatteError when its configuration cannot be read."""
    return _check_vae(pipeline.temporal_decoder / CONFIG, pipeline.shape)


def _check_vae(path: Path, shape: TextToVideoShape) -> float:
    """The scaling factor of an autoencoder that fits the transformer."""
    config = read_json(path, VaeConfig, missing=NOT_WHOLE)
    factor = 2 ** (len(config.block_out_channels) - 1)
    if factor != VAE_FACTOR:
        raise LatteError(f"{path}: found an autoencoder of {factor} pixels a latent, expected {VAE_FACTOR}")
    if config.latent_channels != shape.in_channels:
        raise LatteError(
            f"{path}: found {config.latent_channels} latent channels, expected the transformer's"
            f" {shape.in_channels}"
        )
    return config.scaling_factor or SCALING_FACTOR
