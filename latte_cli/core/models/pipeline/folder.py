"""A text-to-video pipeline as diffusers saves it, and its text encoder: what is in the folder, checked by its
small files alone, before anything slow is imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from latte_cli.core.checkpoints.mapping import Mapped
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.data.captions.states import MAX_TOKENS
from latte_cli.core.errors import LatteError, found
from latte_cli.core.json_files import read_json
from latte_cli.core.latents import SCALING_FACTOR, VAE_FACTOR
from latte_cli.core.models.latte_t2v.shape import TextToVideoShape, read_shape
from latte_cli.core.models.pipeline.configs import SchedulerConfig, TextConfig, VaeConfig

CONFIG = "config.json"  # beside a part's weights
SIZES = ("hidden_size", "depth", "patch_size", "caption_channels", "out_channels")  # that weights tell
PARTS = ("transformer", "text_encoder", "tokenizer", "vae", "scheduler")
WHAT_TO_DOWNLOAD = (
    "download maxin-cn/Latte-1 (huggingface-cli download maxin-cn/Latte-1 --local-dir models/Latte-1)"
)

# Files without which a tokenizer cannot be built.
TOKENIZERS = {"t5": ("spiece.model",), "clip": ("vocab.json", "merges.txt")}
TOKENIZER_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
NOT_WHOLE = "the folder is not whole"


@dataclass(frozen=True)
class TextFolder:
    """Where a text encoder and its tokenizer are."""

    kind: Literal["t5", "clip"]
    encoder: Path
    tokenizer: Path
    width: int
    """Of a token's state."""

    @property
    def max_tokens(self) -> int:
        """Tokens that every text is padded or cut to."""
        return MAX_TOKENS[self.kind]


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


def is_pipeline(path: Path) -> bool:
    """Whether a folder is a whole pipeline in the layout of diffusers."""
    return (path / "model_index.json").is_file()


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
        wanted = f"wanted a t5 encoder of width {shape.caption_channels}"
        raise LatteError(f"{text.encoder}: found a {text.kind} encoder of width {text.width}, {wanted}")
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json", SchedulerConfig, missing=NOT_WHOLE)
    scaling_factor = _check_vae(folder / "vae" / "config.json", shape) if decodes else SCALING_FACTOR
    return PipelineFolder(folder, shape, text, scheduler.model_dump(exclude_unset=True), scaling_factor)


def read_index(folder: Path) -> dict[str, Any]:
    """The `model_index.json` of a pipeline. Raises LatteError for another kind of pipeline, or none."""
    path = folder / "model_index.json"
    index = read_json(path, dict[str, Any], missing=f"wanted a pipeline folder: {WHAT_TO_DOWNLOAD}")
    if (kind := index.get("_class_name")) != "LattePipeline":
        raise LatteError(f"{path}: {found(kind, 'LattePipeline')}")
    return index


def find_text_encoder(folder: Path) -> TextFolder:
    """The text encoder of a pipeline, or one alone with its tokenizer beside it, T5 or CLIP.

    Raises LatteError naming the file that is missing, or another kind of model.
    """
    encoder = folder / "text_encoder" if (folder / "text_encoder").is_dir() else folder
    tokenizer = folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    hint = "wanted the folder of a T5 or CLIP text encoder"
    config = read_json(encoder / "config.json", TextConfig, missing=hint, wanted=hint)
    if config.model_type == "t5":
        text = TextFolder("t5", encoder, tokenizer, config.d_model or 0)
    else:
        text = TextFolder("clip", encoder, tokenizer, (config.text_config or config).hidden_size)
    for name in TOKENIZERS[text.kind]:
        if not (tokenizer / name).is_file():
            raise LatteError(f"{tokenizer / name}: no such file; the {text.kind} tokenizer needs it")
    return text


def check_sizes(mapped: Mapped, known: TextToVideoShape, source: str) -> None:
    """Raise LatteError when a transformer's weights are of other sizes than those `known` of `source`."""
    for name in SIZES:
        mine, theirs = mapped.sizes[name], getattr(known, name)
        if mine != theirs:
            raise LatteError(f"{mapped.weights.path}: {name}: found {mine}, wanted {source}, {theirs}")


def pipeline_files(pipeline: PipelineFolder, *, decodes: bool = True) -> list[Path]:
    """The files that a clip is made from; `decodes`: those of the autoencoder too.

    Raises LatteError when weights are missing.
    """
    files = [pipeline.path / "scheduler" / "scheduler_config.json", *_files(pipeline.transformer)]
    return files + text_files(pipeline.text) + (_files(pipeline.vae) if decodes else [])


def text_files(folder: TextFolder) -> list[Path]:
    """The files of a text encoder and its tokenizer. Raises LatteError when weights are missing."""
    tokenizer = [folder.tokenizer / name for name in (*TOKENIZERS[folder.kind], *TOKENIZER_CONFIGS)]
    return _files(folder.encoder) + [file for file in tokenizer if file.is_file()]


def _files(part: Path) -> list[Path]:
    """The configuration and weights in a folder."""
    return [part / "config.json", *open_weights(part).files]


def _check_vae(path: Path, shape: TextToVideoShape) -> float:
    """The scaling factor of an autoencoder that fits the transformer."""
    config = read_json(path, VaeConfig, missing=NOT_WHOLE)
    factor = 2 ** (len(config.block_out_channels) - 1)
    if factor != VAE_FACTOR:
        raise LatteError(f"{path}: found an autoencoder of {factor} pixels a latent, wanted {VAE_FACTOR}")
    if config.latent_channels != shape.in_channels:
        raise LatteError(
            f"{path}: found {config.latent_channels} latent channels, wanted the transformer's"
            f" {shape.in_channels}"
        )
    return config.scaling_factor or SCALING_FACTOR
