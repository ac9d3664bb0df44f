"""A text encoder and its tokenizer as files: what is in the folder, checked by its small files alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.data.captions.states import MAX_TOKENS, Kind
from latte_cli.core.errors import LatteError
from latte_cli.core.storage.json_files import Model, Size, read_json

# Files without which a tokenizer cannot be built.
TOKENIZERS = {"t5": ("spiece.model",), "clip": ("vocab.json", "merges.txt")}
TOKENIZER_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


class ClipTextConfig(Model):
    """The part of a CLIP `config.json` that is about text."""

    hidden_size: Size = 512


class TextConfig(ClipTextConfig):
    """A text encoder's `config.json`."""

    model_type: Literal["t5", "clip", "clip_text_model"]
    d_model: Size | None = None
    text_config: ClipTextConfig | None = None


@dataclass(frozen=True)
class TextFolder:
    """Where a text encoder and its tokenizer are."""

    kind: Kind
    encoder: Path
    tokenizer: Path
    width: int
    """Of a token's state."""

    @property
    def max_tokens(self) -> int:
        """Tokens that every text is padded or cut to."""
        return MAX_TOKENS[self.kind]


def find_text_encoder(folder: Path) -> TextFolder:
    """The text encoder of a pipeline, or one alone with its tokenizer beside it, T5 or CLIP.

    Raises LatteError naming the file that is missing, or another kind of model.
    """
    encoder = folder / "text_encoder" if (folder / "text_encoder").is_dir() else folder
    tokenizer = folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    hint = "expected the folder of a T5 or CLIP text encoder"
    config = read_json(encoder / "config.json", TextConfig, missing=hint, expected=hint)
    if config.model_type == "t5":
        text = TextFolder("t5", encoder, tokenizer, config.d_model or 0)
    else:
        text = TextFolder("clip", encoder, tokenizer, (config.text_config or config).hidden_size)
    for name in TOKENIZERS[text.kind]:
        if not (tokenizer / name).is_file():
            raise LatteError(f"{tokenizer / name}: no such file; the {text.kind} tokenizer needs it")
    for path in tokenizer.iterdir():  # transformers opens whatever has a name that it knows
        if not path.is_file() and not path.is_dir():
            raise LatteError(f"{path}: found a pipe, a device or a broken link, expected a file")
    return text


def text_files(folder: TextFolder) -> list[Path]:
    """The files of a text encoder and its tokenizer. Raises LatteError when weights are missing."""
    tokenizer = [folder.tokenizer / name for name in (*TOKENIZERS[folder.kind], *TOKENIZER_CONFIGS)]
    return part_files(folder.encoder) + [file for file in tokenizer if file.is_file()]


def part_files(part: Path) -> list[Path]:
    """The configuration and weights in a folder."""
    return [part / "config.json", *open_weights(part).files]
