"""Texts to token ids, as transformers' tokenizers make them."""

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.errors import LatteError
from latte_cli.core.models.mindone_cpu import quiet_imports
from latte_cli.core.models.text.cleaning import clean_caption
from latte_cli.core.models.text.folder import TextFolder
from latte_cli.core.models.text.pieces import MARK, open_pieces

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tokens:
    """A text's padded token ids, and their number without padding, including the end token."""

    ids: NDArray[np.int32]
    number: int


class Tokenizer:
    """Converts texts to token ids like the pipeline, padded or truncated to `max_tokens`.

    `clean_caption`: clean T5's texts first (see `clean_caption`), instead of only lower-casing them.
    """

    def __init__(self, folder: TextFolder, *, clean_caption: bool = True):
        self._folder = folder
        self._pieces = open_pieces(folder.tokenizer) if folder.kind == "t5" else None
        if self._pieces is None:
            self._whole  # noqa: B018 (a tokenizer that cannot be read is refused here)
        self.max_tokens = folder.max_tokens
        self._cleans = clean_caption and folder.kind == "t5"
        self._lowers = folder.kind == "t5"

    def __call__(self, text: str) -> Tokens:
        """Token ids of one text; a truncated part is logged."""
        text = self.clean(text)
        ids, most = self.ids(text), self.max_tokens
        number = min(len(ids), most)
        if len(ids) > most:
            found = f"{shortened(text)}: found {len(ids)} tokens, kept {most}"
            logger.warning("%s; left out: %s", found, shortened(self._decode(ids[most - 1 : -1])))
            ids = [*ids[: most - 1], ids[-1]]
        return Tokens(np.array(ids + [self._pad] * (most - number), np.int32), number)

    def ids(self, text: str) -> list[int]:
        """All token ids of a text that is cleaned already, its end token the last."""
        if self._pieces is not None and MARK not in text:
            return self._pieces.encode(text)
        return list(self._whole(text, verbose=False).input_ids)

    def _decode(self, ids: list[int]) -> str:
        return str((self._pieces or self._whole).decode(ids))

    @property
    def _pad(self) -> int:
        return self._pieces.pad if self._pieces is not None else int(self._whole.pad_token_id)

    @cached_property
    def _whole(self) -> Any:
        """Transformers' tokenizer of the folder."""
        folder = self._folder
        with quiet_imports():
            from transformers import CLIPTokenizer, T5Tokenizer

            kind = {"t5": T5Tokenizer, "clip": CLIPTokenizer}[folder.kind]
            try:
                tokenizer = kind.from_pretrained(str(folder.tokenizer), local_files_only=True)
            except (OSError, ValueError, ImportError, RuntimeError, TypeError) as error:
                raise LatteError(
                    f"{folder.tokenizer}: cannot be read as a tokenizer: {_why(error)}"
                ) from error
        if not tokenizer:  # what transformers returns for a damaged spiece.model
            raise LatteError(f"{folder.tokenizer / 'spiece.model'}: is not a sentencepiece model")
        return tokenizer

    def clean(self, text: str) -> str:
        """Preprocess a text: unchanged for CLIP; for T5 cleaned, or lower-cased and stripped.

        Raises LatteError if it is not valid Unicode (an argument in another encoding).
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise LatteError(f"prompt {text!r}: is not valid UTF-8") from error
        if self._cleans:
            return clean_caption(text)
        return text.lower().strip() if self._lowers else text


def shortened(text: str, length: int = 60) -> str:
    """A quoted and truncated text, for messages."""
    return repr(text if len(text) <= length else text[: length - 3] + "...")


def _why(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
