"""A text-to-video pipeline as diffusers saves it, and its text encoder: what is in the folder, checked by its
small files alone, before anything slow is imported."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.data.captions.states import MAX_TOKENS
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import LATENT_CHANNELS, SCALING_FACTOR, VAE_FACTOR
from latte_cli.core.models.latte_t2v.shape import TextToVideoShape, shape_of_config

CONFIG = "config.json"  # beside a part's weights
PARTS = ("transformer", "text_encoder", "tokenizer", "vae", "scheduler")
WHAT_TO_DOWNLOAD = (
    "download maxin-cn/Latte-1 (huggingface-cli download maxin-cn/Latte-1 --local-dir models/Latte-1)"
)

# Files without which a tokenizer cannot be built.
TOKENIZERS = {"t5": ("spiece.model",), "clip": ("vocab.json", "merges.txt")}
TOKENIZER_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


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
        found = "no --pipeline was given" if folder is None else f"{folder}: no such folder"
        raise LatteError(
            f"{found}; to sample from a prompt, {WHAT_TO_DOWNLOAD} and give --pipeline models/Latte-1"
        )
    index = read_json(folder / "model_index.json", hint=f"wanted a pipeline folder: {WHAT_TO_DOWNLOAD}")
    kind = index.get("_class_name")
    if kind != "LattePipeline":
        raise LatteError(f"{folder / 'model_index.json'}: found a {kind}, wanted a LattePipeline")
    for part in PARTS:
        if part == "vae" and not decodes:
            continue
        if not (folder / part).is_dir():
            raise LatteError(f"{folder / part}: no such folder; the pipeline is not whole")
    config = folder / "transformer" / "config.json"
    shape = shape_of_config(read_json(config), source=str(config))
    text = find_text_encoder(folder)
    if text.kind != "t5" or text.width != shape.caption_channels:
        found = f"a {text.kind} encoder of width {text.width}"
        raise LatteError(
            f"{text.encoder}: found {found}, wanted a t5 encoder of width {shape.caption_channels}"
        )
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    scaling_factor = _check_vae(folder / "vae" / "config.json", shape) if decodes else SCALING_FACTOR
    return PipelineFolder(folder, shape, text, scheduler, scaling_factor)


def find_text_encoder(folder: Path) -> TextFolder:
    """The text encoder of a pipeline, or one alone with its tokenizer beside it, T5 or CLIP.

    Raises LatteError naming the file that is missing, or another kind of model.
    """
    encoder = folder / "text_encoder" if (folder / "text_encoder").is_dir() else folder
    tokenizer = folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    hint = "wanted the folder of a T5 or CLIP text encoder"
    config = read_json(encoder / "config.json", hint=hint)
    kind = str(config.get("model_type"))
    if kind == "t5":
        found = TextFolder("t5", encoder, tokenizer, int(config.get("d_model", 0)))
    elif kind in ("clip", "clip_text_model"):
        text = config.get("text_config") or config
        found = TextFolder("clip", encoder, tokenizer, int(text.get("hidden_size", 512)))
    else:
        raise LatteError(f"{encoder / 'config.json'}: found a {kind} model, {hint}")
    for name in TOKENIZERS[found.kind]:
        if not (tokenizer / name).is_file():
            raise LatteError(f"{tokenizer / name}: no such file; the {kind} tokenizer needs it")
    return found


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


def read_json(path: Path, *, hint: str = "the folder is not whole") -> dict[str, Any]:
    """A JSON object from a file. Raises LatteError naming the file, with `hint` when it is not there."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise LatteError(f"{path}: no such file; {hint}") from None
    except (OSError, ValueError) as error:
        raise LatteError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise LatteError(f"{path}: found a JSON {type(content).__name__}, wanted an object")
    return content


def _check_vae(path: Path, shape: TextToVideoShape) -> float:
    """The scaling factor of an autoencoder that fits the transformer."""
    config = read_json(path)
    factor = 2 ** (len(config.get("block_out_channels") or ()) - 1)
    channels = config.get("latent_channels", LATENT_CHANNELS)
    if factor != VAE_FACTOR:
        raise LatteError(f"{path}: found an autoencoder of {factor} pixels a latent, wanted {VAE_FACTOR}")
    if channels != shape.in_channels:
        raise LatteError(
            f"{path}: found {channels} latent channels, wanted the transformer's {shape.in_channels}"
        )
    return float(config.get("scaling_factor") or SCALING_FACTOR)
