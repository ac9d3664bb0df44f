"""Find the files of a text encoder and its tokenizer, reading only the small ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.data.captions.states import MAX_TOKENS, Kind
from latte_cli.core.errors import LatteError
from latte_cli.core.storage.json_files import Model, Size, read_json

# Files required by each tokenizer.
TOKENIZERS = {"t5": ("spiece.model",), "clip": ("vocab.json", "merges.txt")}
TOKENIZER_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


class ClipTextConfig(Model):
    """The text part of a CLIP `config.json`."""

    hidden_size: Size = 512


class TextConfig(ClipTextConfig):
    """A text encoder's `config.json`."""

    model_type: Literal["t5", "clip", "clip_text_model"]
    d_model: Size | None = None
    text_config: ClipTextConfig | None = None


@dataclass(frozen=True)
class TextFolder:
    """Location of a text encoder and its tokenizer."""

    kind: Kind
    encoder: Path
    tokenizer: Path
    width: int
    """Width of the states."""

    @property
    def max_tokens(self) -> int:
        """Number of tokens to which texts are padded or truncated."""
        return MAX_TOKENS[self.kind]


def find_text_encoder(folder: Path) -> TextFolder:
    """Find the T5 or CLIP encoder in a pipeline folder, or in a folder with its tokenizer.

    Raises LatteError naming a missing file, or if it is another kind of model.
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
            raise LatteError(f"{tokenizer / name}: no such file; required by the {text.kind} tokenizer")
    for path in tokenizer.iterdir():  # transformers opens any file with a known name
        if not path.is_file() and not path.is_dir():
            raise LatteError(f"{path}: found a pipe, a device or a broken link, expected a file")
    return text


def text_files(folder: TextFolder) -> list[Path]:
    """The files of a text encoder and its tokenizer. Raises LatteError if weights are missing."""
    tokenizer = [folder.tokenizer / name for name in (*TOKENIZERS[folder.kind], *TOKENIZER_CONFIGS)]
    return part_files(folder.encoder) + [file for file in tokenizer if file.is_file()]


def part_files(part: Path) -> list[Path]:
    """The configuration and weights in a folder."""
    return [part / "config.json", *open_weights(part).files]
