"""T5's tokenizer by sentencepiece alone: transformers, which does the same, takes a second to import."""

from pathlib import Path
from typing import Any

from latte_cli.core.errors import LatteError
from latte_cli.core.storage.json_files import read_json

MARK = "<"
"""The first character of every special token: texts with it are left to transformers."""


class Pieces:
    """A sentencepiece model, as T5 reads texts without special tokens."""

    def __init__(self, path: Path):
        from sentencepiece import SentencePieceProcessor

        self._model = SentencePieceProcessor(model_file=str(path))
        self.pad: int = self._model.pad_id()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, its end token the last."""
        return [*self._model.encode(text), self._model.eos_id()]

    def decode(self, ids: list[int]) -> str:
        """The text of token ids."""
        return str(self._model.decode(ids))


def open_pieces(tokenizer: Path) -> Pieces | None:
    """The tokenizer of a folder; None where its settings ask for more than its sentencepiece model."""
    try:
        settings = _read(tokenizer / "tokenizer_config.json")
        added = [one["content"] for one in settings.get("added_tokens_decoder", {}).values()]
        added += [settings.get("eos_token", "</s>"), *_read(tokenizer / "added_tokens.json")]
        special = all(token.startswith(MARK) for token in added)
    except (LatteError, TypeError, KeyError, AttributeError):
        return None  # transformers raises the error
    if settings.get("legacy") is False or settings.get("sp_model_kwargs") or not special:
        return None
    try:
        return Pieces(tokenizer / "spiece.model")
    except (OSError, RuntimeError) as error:
        raise LatteError(f"{tokenizer / 'spiece.model'}: is not a sentencepiece model") from error


def _read(path: Path) -> dict[str, Any]:
    return read_json(path, dict[str, Any]) if path.is_file() else {}
