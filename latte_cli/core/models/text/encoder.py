"""Text to the states that a transformer reads: MindONE's T5 and CLIP encoders, transformers' tokenizers."""

import logging
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor
from numpy.typing import NDArray
from safetensors import SafetensorError

from latte_cli.core.data.captions.states import kept, told
from latte_cli.core.errors import LatteError
from latte_cli.core.models.mindone_cpu import quiet_imports, supply_cpu_kernels
from latte_cli.core.models.pipeline.folder import TextFolder

logger = logging.getLogger(__name__)

TIED = "embed_tokens"  # T5's second name for its table of tokens, which files leave out


@dataclass(frozen=True)
class TextStates:
    """A text's states, (max_tokens, width) float32: the first `tokens` are the text, the rest is padding."""

    states: NDArray[np.float32]
    tokens: int

    @property
    def mask(self) -> NDArray[np.float32]:
        """1 at the text's tokens, 0 at padding: (max_tokens,)."""
        return (np.arange(len(self.states)) < self.tokens).astype(np.float32)


@dataclass(frozen=True)
class Tokens:
    """A text's token ids, padded, and how many of them are the text: its end token is one."""

    ids: NDArray[np.int32]
    number: int


class Tokenizer:
    """Texts to token ids, as the pipeline makes them: padded or cut to `max_tokens`."""

    def __init__(self, folder: TextFolder):
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
            raise LatteError(f"{folder.tokenizer / 'spiece.model'}: is no sentencepiece model")
        self.max_tokens = folder.max_tokens
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
        """The text as it is read: for T5 in lower case without spaces around it, as the pipeline does.

        Raises LatteError for a text that is no valid Unicode, as an argument in another encoding is.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise LatteError(f"prompt {text!r}: is not valid UTF-8") from error
        return text.lower().strip() if self._lowers else text


class TextEncoder:
    """Texts to states. Each is encoded alone, so that its states do not depend on what else is encoded.

    `dtype` is that of the weights and arithmetic; a CPU, without kernels for bfloat16, takes float32 instead.
    """

    def __init__(self, folder: TextFolder, *, dtype: str = "float32"):
        self.folder = folder
        self.tokenize = Tokenizer(folder)
        self.width = folder.width
        if dtype == "bfloat16" and ms.get_context("device_target") == "CPU":
            dtype = "float32"
        self._model = _load(folder, getattr(ms, dtype))

    def encode(self, text: str) -> TextStates:
        """The states of one text."""
        tokens = self.tokenize(text)
        ids = Tensor(tokens.ids[None])
        if self.folder.kind == "t5":
            mask = Tensor((np.arange(len(tokens.ids)) < tokens.number).astype(np.int32)[None])
            states = self._model(ids, attention_mask=mask)[0]
        else:
            states = self._model(ids)[0]
        return TextStates(states.astype(ms.float32).asnumpy()[0], tokens.number)


def pipeline_states(
    text: TextStates, negative: TextStates
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A prompt and its negative as diffusers' pipeline feeds them: both cut to the prompt's tokens.

    Packed for the transformer, (max_tokens, width + 1) each: a mask does the cutting, so that all prompts
    have one shape. A shorter negative prompt keeps the states of its padding.
    """
    mask = text.mask[:, None]
    return np.hstack([text.states, mask]), np.hstack([negative.states, mask])


def condition_of(text: TextStates, folder: TextFolder) -> NDArray[np.float32]:
    """What a model is told for a text that this folder's encoder read, in training and in sampling.

    CLIP, for Latte: the states of all tokens, (77, 768). T5, for LatteT2V: states and mask, (120, width + 1).
    """
    return told(kept(text.states, text.tokens, folder.kind), folder.kind)


def encoder_digest(folder: TextFolder) -> str:
    """SHA-256 over the encoder's and the tokenizer's files: what a cache of states was made with."""
    digest = sha256()
    names = ("*.safetensors", "*.bin", "*.model", "config.json", "vocab.json", "merges.txt")
    roots = (folder.encoder, folder.tokenizer)
    for path in sorted({path for root in roots for name in names for path in root.glob(name)}):
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def shortened(text: str, length: int = 60) -> str:
    """A text in quotes, cut for a message."""
    return repr(text if len(text) <= length else text[: length - 3] + "...")


def _load(folder: TextFolder, dtype: Any) -> Any:
    """MindONE's encoder with a folder's weights. Raises LatteError when they are not whole."""
    with quiet_imports():
        from mindone.transformers import CLIPTextModel, T5EncoderModel

        supply_cpu_kernels()
        kind = {"t5": T5EncoderModel, "clip": CLIPTextModel}[folder.kind]
        try:
            model, report = kind.from_pretrained(
                str(folder.encoder), dtype=dtype, local_files_only=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise LatteError(f"{folder.encoder}: cannot be read as a text encoder: {_why(error)}") from error
    missing = sorted(name for name in report["missing_keys"] if TIED not in name)
    if missing:
        raise LatteError(f"{folder.encoder}: {missing[0]} is missing from the weights")
    model.set_train(False)
    return model


def _why(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
