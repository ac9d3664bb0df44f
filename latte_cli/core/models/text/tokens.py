"""Texts to token ids, by transformers' tokenizers."""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.errors import LatteError
from latte_cli.core.models.mindone_cpu import quiet_imports
from latte_cli.core.models.text.cleaning import clean_caption
from latte_cli.core.models.text.folder import TextFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tokens:
    """A text's token ids, padded, and how many of them are the text: its end token is one."""

    ids: NDArray[np.int32]
    number: int


class Tokenizer:
    """Texts to token ids, as the pipeline makes them: padded or cut to `max_tokens`.

    `clean_caption`: T5's texts are cleaned first (see `clean_caption`), else put in lower case alone.
    """

    def __init__(self, folder: TextFolder, *, clean_caption: bool = True):
        with quiet_imports():
            from transformers import CLIPTokenizer, T5Tokenizer

            kind = {"t5": T5Tokenizer, "clip": CLIPTokenizer}[folder.kind]
            try:
                self._tokenizer = kind.from_pretrained(str(folder.tokenizer), local_files_only=True)
            except (OSError, ValueError, ImportError, RuntimeError, TypeError) as error:
                raise LatteError(
                    f"{folder.tokenizer}: cannot be read as a tokenizer: {_why(error)}"
                ) from error
        if not self._tokenizer:  # what transformers returns for a damaged spiece.model
            raise LatteError(f"{folder.tokenizer / 'spiece.model'}: is not a sentencepiece model")
        self.max_tokens = folder.max_tokens
        self._cleans = clean_caption and folder.kind == "t5"
        self._lowers = folder.kind == "t5"

    def __call__(self, text: str) -> Tokens:
        """Token ids of one text; what is cut off is logged."""
        text = self.clean(text)
        whole = self._tokenizer(text, verbose=False).input_ids
        size = {"padding": "max_length", "max_length": self.max_tokens, "truncation": True}
        padded = self._tokenizer(text, return_attention_mask=True, verbose=False, **size)
        if len(whole) > self.max_tokens:
            rest = self._tokenizer.decode(whole[self.max_tokens - 1 : -1])
            found = f"{shortened(text)}: found {len(whole)} tokens, kept {self.max_tokens}"
            logger.warning("%s; left out: %s", found, shortened(rest))
        return Tokens(np.array(padded.input_ids, np.int32), int(sum(padded.attention_mask)))

    def clean(self, text: str) -> str:
        """The text as it is read: CLIP takes it unchanged, T5 cleaned or in lower case without outer spaces.

        Raises LatteError for a text that is not valid Unicode, as an argument in another encoding is.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise LatteError(f"prompt {text!r}: is not valid UTF-8") from error
        if self._cleans:
            return clean_caption(text)
        return text.lower().strip() if self._lowers else text


def shortened(text: str, length: int = 60) -> str:
    """A text in quotes, cut for a message."""
    return repr(text if len(text) <= length else text[: length - 3] + "...")


def _why(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
